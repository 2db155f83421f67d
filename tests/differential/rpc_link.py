"""A scenario's connection to a proxy in an RPC protocol: what comes back on it goes into the journal."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from tests.differential.world import World
from tests.support import dubbo_peer, thrift_peer
from tests.support.dubbo_peer import DubboClient, DubboFrame, DubboUpstream
from tests.support.frame_upstream import FrameClient
from tests.support.server import PeerGone
from tests.support.thrift_peer import Encoding, ThriftClient, ThriftFrame, ThriftUpstream

ClientT = TypeVar("ClientT", bound=FrameClient)
_REASON = b"H\x06reason"
_SILENCE_S = 0.3


def dubbo_upstream(world: World, name: str = "a") -> DubboUpstream:
    """The Dubbo upstream of that name."""
    found = world.frame_upstream(name)
    if not isinstance(found, DubboUpstream):
        raise TypeError(f"{name} is no Dubbo upstream")
    return found


def thrift_upstream(world: World, name: str = "a") -> ThriftUpstream:
    """The Thrift upstream of that name."""
    found = world.frame_upstream(name)
    if not isinstance(found, ThriftUpstream):
        raise TypeError(f"{name} is no Thrift upstream")
    return found


def tagged(
    world: World,
    id: int,
    service: str = "shop.Cart",
    method: str = "get",
    arguments: Sequence[tuple[str, bytes]] = (),
    attachments: Mapping[str, str | bytes] | None = None,
    **options: Any,
) -> bytes:
    """A Dubbo request that its line of the access log is found by."""
    tag = {"x-case": world.next_tag()}
    return dubbo_peer.request(id, service, method, arguments, {**tag, **(attachments or {})}, **options)


def reason(frame: DubboFrame) -> str:
    """What an answer of generic_proxy's own says in its map; empty for any other."""
    _, found, rest = frame.body.partition(_REASON)
    return rest[1 : 1 + rest[0]].decode() if found and frame.status != dubbo_peer.OK else ""


class _Link(Generic[ClientT]):
    """What the links have in common; `raw` is the client."""

    def __init__(self, world: World, raw: ClientT) -> None:
        self._world = world
        self.raw = raw

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.raw.close()

    def send(self, data: bytes) -> None:
        """Exactly these bytes."""
        self.raw.send(data)

    def closes(self, within_s: float = 5.0) -> bool:
        """Whether the proxy closes without another byte."""
        closed = self.raw.closes_within(within_s)
        self._world.note("closed without a frame", closed)
        return closed

    def silent(self, for_s: float = _SILENCE_S) -> bool:
        """Whether for so long nothing comes, and the connection stays open."""
        self.raw.socket.settimeout(for_s)
        try:
            data = self.raw.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.raw.socket.settimeout(8.0)
        self._world.note("no silence", data)
        return False


class DubboLink(_Link[DubboClient]):
    """One downstream connection that speaks Dubbo."""

    def __init__(self, world: World, listener: str = "dubbo") -> None:
        super().__init__(world, DubboClient(world.listener_port(listener), world.listener_host(listener)))
        self._last_id = 0

    def call(
        self,
        service: str = "shop.Cart",
        method: str = "get",
        *rest: Any,
        **options: Any,
    ) -> DubboFrame:
        """Send a request (see `tagged`) and read what comes."""
        self._last_id += 1
        self.send(tagged(self._world, self._last_id, service, method, *rest, **options))
        reply = self.read()
        assert reply.id == self._last_id
        return reply

    def raw_call(self, service: str = "shop.Cart", method: str = "get") -> DubboFrame:
        """`call` without a trace in the journal, for what is tried until it works."""
        self.send(dubbo_peer.request(self._last_id, service, method))
        return self.raw.read()

    def read(self) -> DubboFrame:
        """The next frame, into the journal. Raises PeerGone when the connection ends first."""
        try:
            frame = self.raw.read()
        except PeerGone:
            self._world.note("closed", True)
            raise
        own = reason(frame)
        said = f"flag {frame.flag:#x} status {frame.status} reason {own}" if own else str(frame)
        self._world.note("reply", f"id {frame.id} {said}")
        return frame


class ThriftLink(_Link[ThriftClient]):
    """One downstream connection that speaks Thrift."""

    def __init__(self, world: World, listener: str = "thrift", encoding: Encoding = Encoding.BINARY) -> None:
        super().__init__(world, ThriftClient(world.listener_port(listener), world.listener_host(listener)))
        self._encoding = encoding
        self._last = 0

    def call(self, name: str = "get", fields: Mapping[int, str | int] | None = None) -> ThriftFrame:
        """Send a call and read what comes."""
        self._last += 1
        self.send(thrift_peer.call(name, self._last, fields, encoding=self._encoding))
        reply = self.read()
        assert reply.sequence == self._last
        return reply

    def read(self) -> ThriftFrame:
        """The next frame, into the journal. Raises PeerGone when the connection ends first."""
        try:
            frame = self.raw.read()
        except PeerGone:
            self._world.note("closed", True)
            raise
        self._world.note("reply", f"sequence {frame.sequence} {frame}")
        return frame


def call(
    world: World,
    service: str = "shop.Cart",
    method: str = "get",
    *rest: Any,
    listener: str = "dubbo",
    **options: Any,
) -> DubboFrame:
    """One Dubbo request on a connection of its own, and what came back."""
    with DubboLink(world, listener) as link:
        return link.call(service, method, *rest, **options)


def thrift_call(
    world: World,
    name: str = "get",
    *,
    listener: str = "thrift",
    encoding: Encoding = Encoding.BINARY,
    closed: bool = False,
) -> ThriftFrame:
    """One Thrift call on a connection of its own, and what came back; `closed` if the proxy is to close behind it."""
    with ThriftLink(world, listener, encoding) as link:
        reply = link.call(name)
        assert closed is (link.closes() if closed else link.closes(0.05))
        return reply
