"""h11 says what well-formed HTTP/1.1 means; hypothesis cuts and spoils it."""

from collections.abc import Iterable

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from mosn_xds.data.codec.events import BadRequest, BadResponse, Data, Event, RequestStarted, ResponseStarted, Trailers
from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead, Version
from mosn_xds.data.codec.http1 import Http1ClientCodec, Http1Options, Http1ServerCodec

TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-!#$%&'*+.^_`|~", min_size=1, max_size=12)
TAKEN = {
    "host",
    "connection",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "content-length",
    "expect",
}
NAMES = TOKEN.filter(lambda name: name not in TAKEN).map(str.encode)
VALUES = st.binary(max_size=20).map(lambda raw: bytes(b for b in raw if b >= 0x20 and b != 0x7F).strip())
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"])
PATHS = st.text("abcXYZ09-._~/%?&=", max_size=20).map(lambda text: b"/" + text.encode())
BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=4)
STATUSES = st.sampled_from([200, 201, 404, 500, 503])
SIZES = st.integers(1, 50)


def cut(raw: bytes, sizes: Iterable[int]) -> Iterable[bytes]:
    at = 0
    for size in sizes:
        if at >= len(raw):
            return
        yield raw[at : at + size]
        at += size
    if at < len(raw):
        yield raw[at:]


def flat(sent: bytes | tuple[bytes, ...]) -> bytes:
    return sent if isinstance(sent, bytes) else b"".join(sent)


def body_of(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Data))


def h11_body(connection: h11.Connection) -> bytes:
    body = b""
    while True:
        event = connection.next_event()
        if type(event) is h11.EndOfMessage:
            return body
        assert type(event) is h11.Data, event
        body += bytes(event.data)


@given(METHODS, PATHS, FIELDS, BODIES, st.booleans(), st.lists(SIZES, max_size=20))
def test_server_reads_what_h11_writes(
    method: bytes, path: bytes, fields: Fields, body: list[bytes], sized: bool, sizes: list[int]
) -> None:
    peer = h11.Connection(h11.CLIENT)
    length = sum(map(len, body))
    framing = [(b"content-length", b"%d" % length)] if sized else [(b"transfer-encoding", b"chunked")]
    raw = peer.send(h11.Request(method=method, target=path, headers=[(b"Host", b"a"), *fields, *framing])) or b""
    for part in body:
        raw += peer.send(h11.Data(data=part)) or b""
    raw += peer.send(h11.EndOfMessage()) or b""
    codec = Http1ServerCodec(Http1Options())
    events = [event for piece in cut(raw, sizes) for event in codec.receive(piece)]
    started = events[0]
    assert isinstance(started, RequestStarted)
    kept = [*fields, *framing] if sized else fields
    assert started.head == RequestHead(method, b"", b"a", path, Version.HTTP11, kept)
    assert body_of(events) == b"".join(body)
    assert [event.end_stream for event in events if not isinstance(event, Trailers)].index(True) == len(events) - 1  # type: ignore[union-attr]


@given(STATUSES, FIELDS, BODIES, st.sampled_from(["length", "chunked", "close"]), st.lists(SIZES, max_size=20))
def test_client_reads_what_h11_writes(
    status: int, fields: Fields, body: list[bytes], framing: str, sizes: list[int]
) -> None:
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    peer.next_event()
    length = [(b"content-length", b"%d" % sum(map(len, body)))]
    extra = {"length": length, "chunked": [(b"transfer-encoding", b"chunked")], "close": [(b"connection", b"close")]}[
        framing
    ]
    raw = peer.send(h11.Response(status_code=status, headers=[*fields, *extra])) or b""
    for part in body:
        raw += peer.send(h11.Data(data=part)) or b""
    raw += peer.send(h11.EndOfMessage()) or b""
    codec = Http1ClientCodec(Http1Options())
    codec.send_head(1, RequestHead(b"GET", b"http", b"a", b"/", Version.HTTP11, []), True)
    events = [event for piece in cut(raw, sizes) for event in codec.receive(piece)]
    started = events[0]
    assert isinstance(started, ResponseStarted)
    assert started.head.status == status
    assert [field for field in started.head.fields if field[0] != b"content-length"] == fields
    assert body_of(events) == b"".join(body)
    if framing != "close":
        assert codec.reusable


@given(METHODS, PATHS, FIELDS, BODIES, st.booleans())
def test_h11_reads_requests_that_the_client_writes(
    method: bytes, path: bytes, fields: Fields, body: list[bytes], sized: bool
) -> None:
    if sized:
        fields = [*fields, (b"content-length", b"%d" % sum(map(len, body)))]
    codec = Http1ClientCodec(Http1Options())
    raw = codec.send_head(1, RequestHead(method, b"http", b"a", path, Version.HTTP11, fields), not body)
    for at, part in enumerate(body):
        raw += flat(codec.send_data(1, part, at == len(body) - 1))
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(raw)
    event = peer.next_event()
    assert type(event) is h11.Request
    assert (event.method, event.target) == (method, path)
    added = {b"host", b"transfer-encoding", b"content-length"}
    assert [field for field in event.headers if field[0] not in added] == [f for f in fields if f[0] not in added]
    assert h11_body(peer) == b"".join(body)


@given(STATUSES, FIELDS, BODIES, st.booleans(), st.booleans())
def test_h11_reads_responses_that_the_server_writes(
    status: int, fields: Fields, body: list[bytes], sized: bool, last: bool
) -> None:
    if sized:
        fields = [*fields, (b"content-length", b"%d" % sum(map(len, body)))]
    codec = Http1ServerCodec(Http1Options())
    codec.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    if last:
        codec.close_after()
    raw = codec.send_head(1, ResponseHead(status, fields), not body)
    for at, part in enumerate(body):
        raw += flat(codec.send_data(1, part, at == len(body) - 1))
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(raw)
    event = peer.next_event()
    assert type(event) is h11.Response
    assert event.status_code == status
    added = {b"connection", b"transfer-encoding", b"content-length"}
    assert [field for field in event.headers if field[0] not in added] == [f for f in fields if f[0] not in added]
    assert h11_body(peer) == b"".join(body)
    assert (peer.their_state is h11.MUST_CLOSE) == last
    assert codec.keep_alive != last


PARTS = st.sampled_from([
    b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"GET http://b/ HTTP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 X\r\n", b"HTTP/1.1 100 X\r\n\r\n", b"HTTP/1.1 204 X\r\n", b"Host: a\r\n",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n",
    b"Upgrade: h2c\r\n", b"Upgrade: websocket\r\n", b"x: 1\r\n", b"\r\n", b"abc", b"3\r\nabc\r\n", b"0\r\n", b"\n", b"\0",
    b" ", b"Host: \xff\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
])  # fmt: skip
NOISE = st.lists(PARTS | st.binary(max_size=8), max_size=25).map(b"".join)


@settings(max_examples=400)
@given(NOISE, st.lists(SIZES, max_size=30), st.booleans())
def test_server_survives_anything(raw: bytes, sizes: list[int], lax: bool) -> None:
    options = (
        Http1Options(accept_http_10=True, allow_chunked_length=True, enable_trailers=True) if lax else Http1Options()
    )
    codec = Http1ServerCodec(options)
    ended = 0
    events: list[Event] = []
    for piece in cut(raw, sizes):
        events += codec.receive(piece)
        for _ in range(50):
            if not events:
                break
            last = events[-1]
            assert not any(isinstance(event, BadRequest) for event in events[:-1])
            if not isinstance(last, BadRequest | Trailers) and not getattr(last, "end_stream", False):
                break
            assert last.stream_id == ended + 1  # type: ignore[union-attr]
            ended += 1
            codec.send_head(ended, ResponseHead(200, []), True)
            events = codec.next_exchange()
    codec.receive_eof()
    repr(codec)


@settings(max_examples=400)
@given(NOISE, st.lists(SIZES, max_size=30), st.sampled_from([b"GET", b"HEAD", b"CONNECT", b"upgrade"]))
def test_client_survives_anything(raw: bytes, sizes: list[int], method: bytes) -> None:
    codec = Http1ClientCodec(Http1Options())
    upgrade = b"websocket" if method == b"upgrade" else None
    codec.send_head(1, RequestHead(b"GET" if upgrade else method, b"", b"a", b"/", Version.HTTP11, [], upgrade), True)
    events: list[Event] = []
    for piece in cut(raw, sizes):
        events += codec.receive(piece)
    events += codec.receive_eof()
    finals = [at for at, event in enumerate(events) if isinstance(event, BadResponse)]
    assert len(finals) <= 1
    assert not codec.reusable
    assert sum(isinstance(event, ResponseStarted) for event in events) <= 1


def joined(events: list[Event]) -> list[Event]:
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Data) and isinstance(last, Data):
            out[-1] = Data(last.stream_id, last.data + event.data, event.end_stream)
        else:
            out.append(event)
    return out


def conversation(raw: bytes, sizes: list[int]) -> list[Event]:
    """Every event of a client that sends `raw`, each request answered as soon as it is complete."""
    codec = Http1ServerCodec(Http1Options(enable_trailers=True))
    seen: list[Event] = []
    answered = 0
    for piece in cut(raw, sizes):
        events = codec.receive(piece)
        while events:
            seen += events
            last = events[-1]
            if not isinstance(last, BadRequest | Trailers) and not getattr(last, "end_stream", False):
                break
            answered += 1
            codec.send_head(answered, ResponseHead(200, []), True)
            events = codec.next_exchange()
    return joined(seen)


@settings(max_examples=400)
@given(NOISE, st.lists(SIZES, max_size=30))
def test_how_bytes_are_cut_changes_nothing(raw: bytes, sizes: list[int]) -> None:
    assert conversation(raw, sizes) == conversation(raw, [len(raw) + 1])
