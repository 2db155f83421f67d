"""What every RPC protocol can be configured with; a protocol with options of its own derives from `RpcOptions`.

(As a msgspec.Struct: configuration is decoded straight into it, and a wrong field is an error before Pilot gets its ACK.)
"""

from mosn_xds.spec.extensions import ExtensionOptions


class RpcOptions(ExtensionOptions, frozen=True):
    """What every protocol can be configured with. `heartbeat_interval_s` 0: upstream connections are not asked.

    `max_unread_bytes` may wait for a client that does not read. Its requests are not read then, but what it has asked for
    before is answered on upstream connections that are not its own, and these cannot be held up. The answer that comes when
    more waits closes its connection.
    """

    max_frame_bytes: int = 16 << 20
    max_unread_bytes: int = 64 << 20
    heartbeat_interval_s: float = 15.0
    heartbeat_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if self.max_frame_bytes < 64:
            raise ValueError("max_frame_bytes must be at least 64")
        if self.max_unread_bytes <= 0:
            raise ValueError("max_unread_bytes must be positive")
        if self.heartbeat_interval_s < 0 or self.heartbeat_timeout_s <= 0:
            raise ValueError("heartbeat_interval_s must not be negative, heartbeat_timeout_s must be positive")
