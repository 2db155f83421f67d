"""Dubbo 2 frames byte by byte, a client that sends exactly what it is told to, and an upstream that answers by script.

Nothing here uses the product's codec: a frame is a header of sixteen bytes and a body of Hessian values, and both can be
wrong in whatever way a test wants.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.support import hessian
from tests.support.frame_upstream import FrameClient, FrameExchange, FrameStep, FrameUpstream
from tests.support.server import Stream

MAGIC = 0xDABB
REQUEST, TWO_WAY, EVENT, HESSIAN2 = 0x80, 0x40, 0x20, 0x02
OK, CLIENT_TIMEOUT, SERVER_TIMEOUT, BAD_REQUEST, BAD_RESPONSE = 20, 30, 31, 40, 50
SERVICE_NOT_FOUND, SERVICE_ERROR, SERVER_ERROR, CLIENT_ERROR, BUSY = 60, 70, 80, 90, 100
EXCEPTION, VALUE, NULL_VALUE = 0, 1, 2
EXCEPTION_ATTACHED, VALUE_ATTACHED, NULL_ATTACHED = 3, 4, 5

Attachments = Mapping[str, str | bytes]


@dataclass(frozen=True)
class DubboFrame:
    """A frame as it was read."""

    flag: int
    status: int
    id: int
    body: bytes

    @property
    def data(self) -> bytes:
        """The whole frame."""
        return frame(self.flag, self.status, self.id, self.body)

    @property
    def strings(self) -> tuple[str, str, str, str]:
        """Of a request: Dubbo's version, service, service's version, method."""
        found, at = [], 0
        for _ in range(4):
            value, at = hessian.read_text(self.body, at)
            found.append(value)
        return found[0], found[1], found[2], found[3]

    @property
    def service(self) -> str:
        return self.strings[1]

    @property
    def method(self) -> str:
        return self.strings[3]

    @property
    def value(self) -> str:
        """Of a response with a value that is a string."""
        return hessian.read_text(self.body, 1)[0]

    @property
    def text(self) -> str:
        """Of a response whose body begins with a string."""
        return hessian.read_text(self.body)[0]

    def __str__(self) -> str:
        """All but the id, which proxies may change."""
        return f"flag {self.flag:#04x} status {self.status} body {self.body.decode('latin-1')!r}"


def frame(flag: int, status: int, id: int, body: bytes, *, magic: int = MAGIC, size: int | None = None) -> bytes:
    """Any frame; `size` where it says another length than it has."""
    length = len(body) if size is None else size
    head = magic.to_bytes(2, "big") + bytes([flag, status]) + (id % 2**64).to_bytes(8, "big")
    return head + (length % 2**32).to_bytes(4, "big") + body


def parse(data: bytes) -> DubboFrame:
    """A whole frame."""
    return DubboFrame(data[2], data[3], int.from_bytes(data[4:12], "big"), data[16:])


def invocation(
    service: str = "shop.Cart",
    method: str = "get",
    arguments: Sequence[tuple[str, bytes]] = (),
    attachments: Attachments | None = None,
    *,
    version: str = "1.0.0",
    dubbo: str = "2.0.2",
) -> bytes:
    """A request's body. An argument is its JVM type and its value's bytes."""
    values = [hessian.text(item) for item in (dubbo, service, version, method, "".join(kind for kind, _ in arguments))]
    return b"".join((*values, *(value for _, value in arguments), hessian.mapping(attachments or {})))


def request(
    id: int,
    service: str = "shop.Cart",
    method: str = "get",
    arguments: Sequence[tuple[str, bytes]] = (),
    attachments: Attachments | None = None,
    *,
    version: str = "1.0.0",
    one_way: bool = False,
) -> bytes:
    """A request of this id."""
    flag = REQUEST | HESSIAN2 | (0 if one_way else TWO_WAY)
    return frame(flag, 0, id, invocation(service, method, arguments, attachments, version=version))


def heartbeat(id: int, *, two_way: bool = True, body: bytes = hessian.NULL) -> bytes:
    """An event: without a body of its own, a heartbeat."""
    return frame(REQUEST | EVENT | HESSIAN2 | (TWO_WAY if two_way else 0), 0, id, body)


def response(id: int, body: bytes, *, status: int = OK) -> bytes:
    """A response of this id."""
    return frame(HESSIAN2, status, id, body)


def result(kind: int, value: bytes = b"", attachments: Attachments | None = None) -> bytes:
    """A response's body where the status is OK; attachments only with the kinds that have them."""
    return hessian.integer(kind) + value + (b"" if attachments is None else hessian.mapping(attachments))


def answer(
    value: str | None = None,
    *,
    body: bytes | None = None,
    status: int = OK,
    delay_s: float = 0.0,
    id: Callable[[int], int] = lambda id: id,
) -> FrameStep:
    """A response: a string value (the upstream's name, if None), or this very body."""

    def step(exchange: FrameExchange) -> None:
        exchange.upstream.pause(delay_s)
        said = exchange.upstream.name if value is None else value
        content = result(VALUE, hessian.text(said)) if body is None else body
        exchange.send(response(id(parse(exchange.data).id), content, status=status))

    return step


def read_frame(stream: Stream) -> bytes:
    """The next frame, whole. Raises PeerGone."""
    head = stream.exactly(16)
    return head + stream.exactly(int.from_bytes(head[12:16], "big"))


class DubboUpstream(FrameUpstream):
    """A Dubbo server; unless told otherwise it answers heartbeats, says nothing to one-way requests, and its own name to all
    others."""

    @property
    def requests(self) -> list[DubboFrame]:
        """What came, in order of arrival."""
        return [parse(seen.data) for seen in list(self.frames)]

    def read_frame(self, stream: Stream) -> bytes:
        return read_frame(stream)

    def describe(self, data: bytes) -> str:
        seen = parse(data)
        return "" if seen.flag & EVENT else str(seen)

    def default(self, exchange: FrameExchange) -> None:
        seen = parse(exchange.data)
        if not seen.flag & TWO_WAY:
            return
        if seen.flag & EVENT:
            exchange.send(frame(EVENT | HESSIAN2, OK, seen.id, hessian.NULL))
        else:
            answer()(exchange)


class DubboClient(FrameClient):
    """A connection of a Dubbo client."""

    def read(self) -> DubboFrame:
        """The next frame. Raises PeerGone when the connection ends first."""
        return parse(read_frame(self.stream))
