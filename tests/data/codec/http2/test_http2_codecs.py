"""A client's codec talks to a server's."""

import pytest

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.events import (
    ConnectionClosed,
    Data,
    Event,
    GoAway,
    Informational,
    PingAnswered,
    RequestStarted,
    ResponseStarted,
    StreamReset,
    Trailers,
    Writable,
)
from mosn_xds.data.codec.http2 import EngineFactory, ErrorCode, Http2Options
from tests.support.http2_pair import Pair, answer, get


def body_of(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Data))


def test_request_and_response_arrive_with_bodies_and_trailers(engines: EngineFactory) -> None:
    pair = Pair(engines)
    stream_id = pair.client.send_head(get(b"/a?b", fields=[(b"x-one", b"1"), (b"cookie", b"a=b")]), end_stream=False)
    pair.client.send_data(stream_id, b"hello", end_stream=False)
    pair.client.send_trailers(stream_id, [(b"x-sum", b"9")])
    pair.exchange()
    _, (started, data, trailers) = pair.take()
    assert isinstance(started, RequestStarted)
    head = started.head
    assert (head.method, head.scheme, head.authority, head.path) == (b"GET", b"http", b"example.org", b"/a?b")
    assert head.fields == [(b"x-one", b"1"), (b"cookie", b"a=b")]
    assert not started.end_stream
    assert data == Data(stream_id, b"hello", False)
    assert trailers == Trailers(stream_id, [(b"x-sum", b"9")])

    pair.server.send_informational(stream_id, answer(103, (b"link", b"</x>")))
    pair.server.send_head(stream_id, answer(200, (b"a", b"b")), end_stream=False)
    pair.server.send_data(stream_id, b"there", end_stream=False)
    pair.server.send_trailers(stream_id, [(b"grpc-status", b"0")])
    pair.exchange()
    (early, response, data, trailers), _ = pair.take()
    assert isinstance(early, Informational)
    assert early.head.status == 103
    assert isinstance(response, ResponseStarted)
    assert (response.head.status, response.head.fields, response.end_stream) == (200, [(b"a", b"b")], False)
    assert data == Data(stream_id, b"there", False)
    assert trailers == Trailers(stream_id, [(b"grpc-status", b"0")])
    assert pair.client.open_streams == pair.server.open_streams == 0


def test_a_head_alone_may_be_all(engines: EngineFactory) -> None:
    pair = Pair(engines)
    stream_id = pair.client.send_head(get(), end_stream=True)
    pair.exchange()
    _, (started,) = pair.take()
    assert isinstance(started, RequestStarted)
    assert started.end_stream
    pair.server.send_head(stream_id, answer(204), end_stream=True)
    pair.exchange()
    (response,), _ = pair.take()
    assert isinstance(response, ResponseStarted)
    assert response.end_stream


def test_what_belongs_to_an_http1_connection_is_not_sent(engines: EngineFactory) -> None:
    pair = Pair(engines)
    fields = [(b"connection", b"keep-alive"), (b"keep-alive", b"1"), (b"transfer-encoding", b"chunked"), (b"x", b"y")]
    stream_id = pair.client.send_head(get(fields=list(fields)), end_stream=True)
    pair.exchange()
    _, (started,) = pair.take()
    assert isinstance(started, RequestStarted)
    assert started.head.fields == [(b"x", b"y")]
    pair.server.send_head(stream_id, answer(200, *fields), end_stream=True)
    pair.exchange()
    (response,), _ = pair.take()
    assert isinstance(response, ResponseStarted)
    assert response.head.fields == [(b"x", b"y")]


def test_a_slow_reader_stops_its_stream_and_no_other(engines: EngineFactory) -> None:
    window = 100_000
    pair = Pair(engines, server=Http2Options(initial_stream_window_bytes=window))
    slow = pair.client.send_head(get(), end_stream=False)
    fast = pair.client.send_head(get(), end_stream=False)
    assert pair.client.send_data(slow, bytes(2_000_000), end_stream=True)
    pair.client.send_data(fast, b"quick", end_stream=True)
    pair.exchange()
    told, events = pair.take()
    assert sum(len(e.data) for e in events if isinstance(e, Data) and e.stream_id == slow) == window
    assert Data(fast, b"quick", True) in events
    assert pair.client.queued_bytes(slow) == 2_000_000 - window
    assert not told

    got = window
    while got < 2_000_000:
        pair.server.consume(slow, window)
        pair.exchange()
        more, events = pair.take()
        told += more
        arrived = len(body_of(events))
        assert 0 < arrived <= window
        got += arrived
    assert told == [Writable(slow)]


def test_reset_says_why(engines: EngineFactory) -> None:
    pair = Pair(engines)
    for code, reason, details in (
        (ErrorCode.CANCEL, ResetReason.REMOTE_RESET, "http2.remote_reset"),
        (ErrorCode.REFUSED_STREAM, ResetReason.REMOTE_REFUSED, "http2.remote_refuse"),
        (ErrorCode.CONNECT_ERROR, ResetReason.CONNECT_ERROR, "http2.remote_reset"),
    ):
        stream_id = pair.client.send_head(get(), end_stream=False)
        pair.exchange()
        pair.take()
        pair.server.reset(stream_id, code)
        pair.exchange()
        assert pair.take() == ([StreamReset(stream_id, reason, details)], [])
    assert pair.client_stats.rx_reset == pair.server_stats.tx_reset == 3
    assert pair.client.open_streams == pair.server.open_streams == 0


def test_reset_leaves_behind_what_was_sent_before(engines: EngineFactory) -> None:
    pair = Pair(engines)
    stream_id = pair.client.send_head(get(), end_stream=False)
    pair.exchange()
    pair.take()
    pair.server.send_head(stream_id, answer(), end_stream=False)
    pair.server.send_data(stream_id, b"part", end_stream=False)
    pair.server.reset(stream_id, ErrorCode.INTERNAL_ERROR)
    pair.exchange()
    (response, data, reset), _ = pair.take()
    assert isinstance(response, ResponseStarted)
    assert data == Data(stream_id, b"part", False)
    assert reset == StreamReset(stream_id, ResetReason.REMOTE_RESET, "http2.remote_reset")


def test_a_complete_answer_leaves_before_the_reset_of_its_request(engines: EngineFactory) -> None:
    """RFC 9113 section 8.1: RST_STREAM with NO_ERROR asks the client to send no more of a request that is answered."""
    pair = Pair(engines, client=Http2Options(initial_stream_window_bytes=70_000))
    stream_id = pair.client.send_head(get(), end_stream=False)
    pair.exchange()
    pair.take()
    pair.server.send_head(stream_id, answer(413), end_stream=False)
    pair.server.send_data(stream_id, bytes(100_000), end_stream=True)
    pair.server.reset(stream_id, ErrorCode.NO_ERROR)
    pair.exchange()
    events, _ = pair.take()
    assert len(body_of(events)) == 70_000
    pair.client.consume(stream_id, 70_000)
    pair.exchange()
    events, _ = pair.take()
    assert len(body_of(events)) == 30_000


def test_cancelled_streams_leave_the_connection_its_window(engines: EngineFactory) -> None:
    options = Http2Options(initial_connection_window_bytes=65_535, initial_stream_window_bytes=65_535)
    pair = Pair(engines, client=options)
    for _ in range(50):
        stream_id = pair.client.send_head(get(), end_stream=True)
        pair.exchange()
        pair.server.send_head(stream_id, answer(), end_stream=False)
        pair.server.send_data(stream_id, bytes(30_000), end_stream=False)
        out, _ = pair.server.flush()
        pair.client.receive(out[: len(out) // 2 + 77])
        pair.client.reset(stream_id, ErrorCode.CANCEL)
        pair.client.receive(out[len(out) // 2 + 77 :])
        pair.exchange()
        pair.take()
    stream_id = pair.client.send_head(get(), end_stream=True)
    pair.exchange()
    pair.server.send_head(stream_id, answer(), end_stream=False)
    pair.server.send_data(stream_id, bytes(20_000), end_stream=True)
    pair.exchange()
    events, _ = pair.take()
    assert len(body_of(events)) == 20_000


def test_drain_lets_what_is_on_its_way_finish(engines: EngineFactory) -> None:
    pair = Pair(engines)
    first = pair.client.send_head(get(), end_stream=True)
    pair.exchange()
    pair.server.shutdown_notice()
    second = pair.client.send_head(get(), end_stream=True)  # before the client has heard
    pair.exchange()
    told, events = pair.take()
    assert [e.stream_id for e in events if isinstance(e, RequestStarted)] == [first, second]
    (notice,) = told
    assert isinstance(notice, GoAway)
    assert notice.last_stream_id >= 2**31 - 2
    assert pair.client.free_streams == 0
    pair.server.goaway()
    pair.exchange()
    (last,), _ = pair.take()
    assert last == GoAway(second)
    for stream_id in (first, second):
        pair.server.send_head(stream_id, answer(), end_stream=True)
    pair.exchange()
    told, _ = pair.take()
    assert [e.stream_id for e in told if isinstance(e, ResponseStarted)] == [first, second]


def test_requests_above_the_last_stream_may_be_sent_again(engines: EngineFactory) -> None:
    pair = Pair(engines)
    first = pair.client.send_head(get(), end_stream=True)
    pair.exchange()
    pair.server.goaway()
    late = pair.client.send_head(get(), end_stream=True)
    pair.exchange()
    told, events = pair.take()
    assert StreamReset(late, ResetReason.REMOTE_REFUSED, "http2.remote_refuse") in told
    assert [e.stream_id for e in events if isinstance(e, RequestStarted)] == [first]


def test_the_peer_says_how_many_streams_it_takes(engines: EngineFactory) -> None:
    pair = Pair(engines, server=Http2Options(max_concurrent_streams=3))
    assert pair.client.max_concurrent_streams == pair.client.free_streams == 3
    pair.client.send_head(get(), end_stream=True)
    assert pair.client.free_streams == 2


def test_ping_is_answered(engines: EngineFactory) -> None:
    pair = Pair(engines)
    pair.client.ping()
    pair.server.ping()
    pair.exchange()
    assert pair.take() == ([PingAnswered()], [PingAnswered()])


def test_an_upgrade_crosses_as_extended_connect(engines: EngineFactory) -> None:
    pair = Pair(engines, server=Http2Options(allow_connect=True))
    head = get(b"/chat", upgrade=b"websocket", fields=[(b"upgrade", b"websocket"), (b"connection", b"Upgrade")])
    stream_id = pair.client.send_head(head, end_stream=False)
    pair.exchange()
    _, (started,) = pair.take()
    assert isinstance(started, RequestStarted)
    assert (started.head.method, started.head.upgrade, started.head.path) == (b"GET", b"websocket", b"/chat")
    assert started.head.get(b"upgrade") == b"websocket"
    pair.server.send_head(stream_id, answer(101, (b"upgrade", b"websocket"), (b"connection", b"upgrade")), False)
    pair.server.send_data(stream_id, b"frame", end_stream=False)
    pair.exchange()
    (response, data), _ = pair.take()
    assert isinstance(response, ResponseStarted)
    assert response.head.status == 101
    assert response.head.get(b"upgrade") == b"websocket"
    assert data == Data(stream_id, b"frame", False)


def test_connect_has_an_authority_alone(engines: EngineFactory) -> None:
    pair = Pair(engines)
    head = get(b"", method=b"CONNECT", authority=b"db:5432")
    pair.client.send_head(head, end_stream=False)
    pair.exchange()
    _, (started,) = pair.take()
    assert isinstance(started, RequestStarted)
    assert (started.head.method, started.head.authority, started.head.path) == (b"CONNECT", b"db:5432", b"")
    assert started.head.upgrade is None


def test_a_connection_error_ends_all_streams(engines: EngineFactory) -> None:
    pair = Pair(engines)
    first = pair.client.send_head(get(), end_stream=False)
    second = pair.client.send_head(get(), end_stream=False)
    pair.exchange()
    pair.take()
    events = pair.server.receive(b"\x00\x00\x08\x06\x00\x00\x00\x00\x01" + bytes(8))  # PING on a stream
    pair.exchange()
    _, more = pair.take()
    events += more
    assert [e.stream_id for e in events if isinstance(e, StreamReset)] == [first, second]
    closed = events[-1]
    assert isinstance(closed, ConnectionClosed)
    assert closed.code == ErrorCode.PROTOCOL_ERROR
    assert pair.server_stats.streams_active == 0


@pytest.mark.parametrize("size", [1, 7, 10, 1000])
def test_how_the_bytes_are_cut_does_not_matter(engines: EngineFactory, size: int) -> None:
    pair = Pair(engines)
    stream_id = pair.client.send_head(get(fields=[(b"a", b"x" * 300)]), end_stream=False)
    pair.client.send_data(stream_id, bytes(5000), end_stream=True)
    out, _ = pair.client.flush()
    events: list[Event] = []
    for at in range(0, len(out), size):
        events += pair.server.receive(out[at : at + size])
    assert isinstance(events[0], RequestStarted)
    assert body_of(events) == bytes(5000)
