"""Which of several protocols a client speaks, told from its first bytes.

The protocols are asked in their configured order, and one is found only when every one before it has said no: what is found
depends on the bytes, not on how they were cut. A protocol may ask for as many bytes as it says that a frame's beginning has
(`RpcProtocol.head_bytes`); if it cannot tell then, it is not spoken.

`DetectingConnection` has the wire of an RPC proxy's connection until the protocol is known. A client that says nothing may
do so for as long as an idle connection may; one that begins, and does not go on, may not.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mosn_xds.data.codec.rpc import RpcProtocol, Sniff
from mosn_xds.data.proxy.deadlines import NEVER
from mosn_xds.data.proxy.rpc.connection import RpcServerConnection

if TYPE_CHECKING:
    from mosn_xds.data.proxy.downstream import Downstream, DrainState, Owner
    from mosn_xds.data.proxy.rpc.manager import RpcManager

_MORE: Final = Sniff.MORE
_NO: Final = Sniff.NO


def detect(protocols: Sequence[RpcProtocol], prefix: bytes) -> RpcProtocol | Sniff:
    """The protocol that a connection which begins with `prefix` speaks; NO for none of them, MORE if that is not clear yet."""
    for protocol in protocols:
        limit = protocol.head_bytes
        said = protocol.sniff(prefix[:limit])
        if said is Sniff.YES:
            return protocol
        if said is _MORE and len(prefix) < limit:
            return _MORE
    return _NO


class Detection:
    """One connection's; `prefix` is what has come."""

    __slots__ = ("_protocols", "prefix")

    def __init__(self, protocols: Sequence[RpcProtocol]) -> None:
        self._protocols = protocols
        self.prefix = b""

    def receive(self, data: bytes) -> RpcProtocol | Sniff:
        """What is known with `data`; see `detect`."""
        self.prefix = self.prefix + data if self.prefix else data
        return detect(self._protocols, self.prefix)

    def __repr__(self) -> str:
        names = " ".join(protocol.name for protocol in self._protocols)
        return f"<Detection of {names} in {len(self.prefix)} bytes>"


class DetectingConnection(RpcServerConnection):
    """See the module's text."""

    __slots__ = ("_detection",)

    def __init__(self, manager: "RpcManager", downstream: "Downstream") -> None:
        super().__init__(manager, manager.protocols[0], downstream)
        self._detection = Detection(manager.protocols)
        self.binding = None

    def move(self, manager: "RpcManager", drain: "DrainState", owner: "Owner") -> bool:
        mine = [protocol.key for protocol in self.rpc_manager.protocols]
        return mine == [protocol.key for protocol in manager.protocols] and super().move(manager, drain, owner)

    def on_data(self, data: bytes) -> None:
        if self._closing:
            return
        found = self._detection.receive(data)
        if isinstance(found, RpcProtocol):
            self.rpc_manager.stats.count(f"downstream_cx_detected.{found.name}")
            self._protocol = found
            heir = RpcServerConnection(self.rpc_manager, found, self._downstream, self)
            self.wire.consumer = heir
            self._downstream.replace(self, heir)
            heir.on_data(self._detection.prefix)
        elif found is _NO:
            self._refuse("protocol_unknown")
        elif self._head_deadline == NEVER:
            self._head_deadline = self.clock.now + self.rpc_manager.spec.detection_timeout_s
            self.watch(self._head_deadline)

    def _on_head_timeout(self) -> None:
        self._refuse("protocol_detection_timeout")

    def _refuse(self, why: str) -> None:
        stats = self.rpc_manager.stats
        stats.downstream_cx_rx_bytes_total += len(self._detection.prefix)
        stats.downstream_cx_protocol_error += 1
        stats.count(f"downstream_cx_{why}")
        self.info.close_reason = f"rpc_{why}"
        self._shut()

    def close_if_idle(self) -> bool:
        """There is no protocol to say goodbye in."""
        self._shut()
        return True
