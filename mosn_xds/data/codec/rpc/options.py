"""What every RPC protocol can be configured with; a protocol with options of its own derives from `RpcOptions`.

(As a msgspec.Struct: configuration is decoded straight into it, and a wrong field is an error before Pilot gets its ACK.)
"""

from mosn_xds.spec.extensions import ExtensionOptions


class RpcOptions(ExtensionOptions, frozen=True):
    """What every protocol can be configured with. `heartbeat_interval_s` 0: upstream connections are not asked."""

    max_frame_bytes: int = 16 << 20
    heartbeat_interval_s: float = 15.0
    heartbeat_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if self.max_frame_bytes < 64:
            raise ValueError("max_frame_bytes must be at least 64")
        if self.heartbeat_interval_s < 0 or self.heartbeat_timeout_s <= 0:
            raise ValueError("heartbeat_interval_s must not be negative, heartbeat_timeout_s must be positive")
