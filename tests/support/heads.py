"""Request and response heads, connections and stream infos in one line, for tests of what reads them."""

import random

from mosn_xds.base.clock import ManualClock
from mosn_xds.data.codec.head import RequestHead, ResponseHead, Version
from mosn_xds.data.observe.getters import FormatEnvironment
from mosn_xds.data.observe.info import ConnectionInfo, StreamInfo
from mosn_xds.spec.common import Address
from mosn_xds.spec.format import INERT_OPERATORS, OPERATORS, parse_format

Pair = tuple[str, str]


def request(path: str = "/", *pairs: Pair, host: str = "h.com", method: str = "GET") -> RequestHead:
    """A request as the connection manager hands it on."""
    fields = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
    return RequestHead(method.encode(), b"http", host.encode(), path.encode("latin-1"), Version.HTTP11, fields)


def response(status: int = 200, *pairs: Pair) -> ResponseHead:
    """A response."""
    return ResponseHead(status, [(name.encode(), value.encode("latin-1")) for name, value in pairs])


def connection(remote: str = "10.1.2.3", local: str = "10.9.9.9") -> ConnectionInfo:
    """A downstream connection from port 40000 to port 8080."""
    return ConnectionInfo(id=7, remote=Address(remote, 40000), local=Address(local, 8080), start_s=0, start_wall_s=0)


def info(head: RequestHead | None = None, **attributes: object) -> StreamInfo:
    """A stream with these attributes."""
    stream = StreamInfo(connection())
    stream.request_head = head
    for name, value in attributes.items():
        setattr(stream, name, value)
    return stream


def environment(clock: ManualClock | None = None) -> FormatEnvironment:
    """What formats are compiled with."""
    return FormatEnvironment(clock or ManualClock(), random.Random(1), "node-1")


def parsed(text: str):
    """The parsed form of a format string."""
    return parse_format(text, OPERATORS | INERT_OPERATORS)
