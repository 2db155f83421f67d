"""What a codec refuses: header sections beyond the limits, malformed messages, frames that only cost."""

import hpack
import pytest

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.events import (
    BadRequest,
    BadResponse,
    ConnectionClosed,
    Event,
    RequestStarted,
    StreamReset,
    Trailers,
)
from mosn_xds.data.codec.http1 import UnderscoreAction
from mosn_xds.data.codec.http2 import (
    PREFACE,
    EngineFactory,
    ErrorCode,
    FloodLimits,
    Http2Options,
    Http2ServerCodec,
    Http2Stats,
    h2_engine,
)
from tests.support.http2_client import Flag, Kind, frame
from tests.support.http2_pair import Pair, answer, get

LAST = Flag.END_HEADERS | Flag.END_STREAM
BASE = [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/")]


class Raw:
    """A server's codec at the other end of frames."""

    def __init__(self, engines: EngineFactory, options: Http2Options | None = None) -> None:
        self.stats = Http2Stats("http2.")
        self.codec = Http2ServerCodec(engines, options or Http2Options(), self.stats)
        self.encoder = hpack.Encoder()
        self.out = b""
        assert self.send(PREFACE + frame(Kind.SETTINGS, 0, 0)) == []

    def send(self, data: bytes) -> list[Event]:
        events = self.codec.receive(data)
        out, more = self.codec.flush()
        self.out += out
        return events + more

    def request(self, stream_id: int, *fields: tuple[str, str]) -> list[Event]:
        return self.send(frame(Kind.HEADERS, LAST, stream_id, self.encoder.encode([*BASE, *fields])))


def closed(events: list[Event]) -> ConnectionClosed | None:
    last = events[-1] if events else None
    return last if isinstance(last, ConnectionClosed) else None


@pytest.mark.parametrize(
    ("fields", "details", "counter"),
    [
        ([(f"x-{n}", "1") for n in range(8)], "http2.too_many_headers", "header_overflow"),
        ([("x", "y" * 1500)], "http2.header_list_size_too_large", "header_list_size_too_large"),
        ([("x", "y" * 500), ("x", "z" * 600)], "http2.header_list_size_too_large", "header_list_size_too_large"),
    ],
)
def test_a_head_beyond_a_limit_costs_its_stream(
    engines: EngineFactory, fields: list[tuple[str, str]], details: str, counter: str
) -> None:
    raw = Raw(engines, Http2Options(max_headers_bytes=1000, max_headers_count=10))
    (refused,) = raw.request(1, *fields)
    assert isinstance(refused, BadRequest)
    assert (refused.stream_id, refused.status, refused.details) == (1, 0, details)
    assert getattr(raw.stats, counter) == raw.stats.tx_reset == 1
    (started,) = raw.request(3, ("x", "y"))
    assert isinstance(started, RequestStarted)


def test_trailers_beyond_a_limit_reset_their_stream(engines: EngineFactory) -> None:
    pair = Pair(engines, server=Http2Options(max_headers_bytes=1000))
    stream_id = pair.client.send_head(get(), end_stream=False)
    pair.client.send_trailers(stream_id, [(b"x", b"y" * 2000)])
    pair.exchange()
    told, events = pair.take()
    assert isinstance(events[0], RequestStarted)
    assert [type(event) for event in events[1:]] == [StreamReset]
    assert told == [StreamReset(stream_id, ResetReason.REMOTE_RESET, "http2.remote_reset")]
    assert not any(isinstance(event, Trailers) for event in events)


def test_a_response_beyond_a_limit_is_none(engines: EngineFactory) -> None:
    pair = Pair(engines, client=Http2Options(max_headers_bytes=1000))
    stream_id = pair.client.send_head(get(), end_stream=True)
    pair.exchange()
    pair.take()
    pair.server.send_head(stream_id, answer(200, (b"x", b"y" * 2000)), end_stream=False)
    pair.exchange()
    told, events = pair.take()
    assert told == [BadResponse(stream_id, "http2.header_list_size_too_large")]
    assert [type(event) for event in events] == [StreamReset]


@pytest.mark.parametrize("action", UnderscoreAction)
def test_names_with_an_underscore(engines: EngineFactory, action: UnderscoreAction) -> None:
    raw = Raw(engines, Http2Options(underscores=action))
    (event,) = raw.request(1, ("x_y", "1"), ("x", "2"))
    if action is UnderscoreAction.REJECT_REQUEST:
        assert isinstance(event, BadRequest)
        assert event.details == "http2.unexpected_underscore"
        assert raw.stats.requests_rejected_with_underscores_in_headers == 1
    else:
        assert isinstance(event, RequestStarted)
        kept = [(b"x", b"2")] if action is UnderscoreAction.DROP_HEADER else [(b"x_y", b"1"), (b"x", b"2")]
        assert event.head.fields == kept


def test_an_upgrade_keeps_its_fields_where_names_are_dropped(engines: EngineFactory) -> None:
    raw = Raw(engines, Http2Options(underscores=UnderscoreAction.DROP_HEADER, allow_connect=True))
    block = raw.encoder.encode([(":method", "CONNECT"), (":protocol", "websocket"), *BASE[1:], ("x_y", "1")])
    (event,) = raw.send(frame(Kind.HEADERS, Flag.END_HEADERS, 1, block))
    assert isinstance(event, RequestStarted)
    assert (event.head.upgrade, event.head.get(b"upgrade"), event.head.get(b"connection")) == (
        b"websocket", b"websocket", b"upgrade",
    )  # fmt: skip


@pytest.mark.parametrize("field", [("X-Upper", "1"), ("connection", "close"), ("te", "gzip"), ("x", "a\0b")])
def test_a_malformed_message_ends_the_connection(engines: EngineFactory, field: tuple[str, str]) -> None:
    raw = Raw(engines)
    raw.request(1)
    events = raw.request(3, field)
    end = closed(events)
    assert end is not None
    assert end.code == ErrorCode.PROTOCOL_ERROR
    assert StreamReset(1, ResetReason.PROTOCOL_ERROR, end.details) in events
    assert raw.out[-8:-4] in (b"\0\0\0\x01", b"\0\0\0\x03")  # GOAWAY says how far we looked
    assert raw.send(frame(Kind.PING, 0, 0, bytes(8))) == []


def test_a_malformed_message_may_end_its_stream_alone(engines: EngineFactory) -> None:
    if engines is h2_engine:
        pytest.skip("h2 has no state to go on from behind a malformed message")
    raw = Raw(engines, Http2Options(stream_errors=True))
    (refused,) = raw.request(1, ("X-Upper", "1"))
    assert isinstance(refused, BadRequest)
    assert refused.details == "http2.violation.of.messaging.rule"
    (started,) = raw.request(3)
    assert isinstance(started, RequestStarted)
    assert raw.stats.rx_messaging_error == 1


POST = [(":method", "POST"), *BASE[1:]]
FLOODS = {
    "empty DATA": (frame(Kind.DATA, 0, 1), 1, "inbound_empty_frames_flood"),
    "padding": (frame(Kind.DATA, Flag.PADDED, 1, b"\x02\0\0"), 1, "inbound_empty_frames_flood"),
    "PRIORITY": (frame(Kind.PRIORITY, 0, 3, b"\0\0\0\0\x10"), 200, "inbound_priority_frames_flood"),
    "WINDOW_UPDATE": (frame(Kind.WINDOW_UPDATE, 0, 0, b"\0\0\0\x01"), 7, "inbound_window_update_frames_flood"),
    "PING": (frame(Kind.PING, 0, 0, bytes(8)), 999, "outbound_control_flood"),
    "SETTINGS": (frame(Kind.SETTINGS, 0, 0), 999, "outbound_control_flood"),
}


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("size", [7, 10, 10_000])
def test_floods_end_the_connection_at_once(engines: EngineFactory, name: str, size: int) -> None:
    """However the bytes are cut; one frame less than too many is served."""
    attack, allowed, counter = FLOODS[name]
    for count in (allowed, allowed + 1):
        raw = Raw(engines)
        raw.send(frame(Kind.HEADERS, Flag.END_HEADERS, 1, raw.encoder.encode(POST)))
        sent = attack * count
        events: list[Event] = []
        for at in range(0, len(sent), size):
            events += raw.codec.receive(sent[at : at + size])
        end = closed(events)
        assert (end is not None) == (count > allowed)
        assert getattr(raw.stats, counter) == int(count > allowed)
        if end is not None:
            assert end.abrupt


def test_answers_that_have_left_are_not_owed(engines: EngineFactory) -> None:
    raw = Raw(engines, Http2Options(floods=FloodLimits(max_outbound_control_frames=10)))
    for _ in range(50):
        assert raw.send(frame(Kind.PING, 0, 0, bytes(8)) * 5) == []
        raw.codec.all_sent()


def test_a_body_that_is_sent_allows_window_updates(engines: EngineFactory) -> None:
    pair = Pair(engines, client=Http2Options(initial_stream_window_bytes=65535))
    for _ in range(30):
        stream_id = pair.client.send_head(get(), end_stream=True)
        pair.exchange()
        pair.server.send_head(stream_id, answer(), end_stream=False)
        pair.server.send_data(stream_id, bytes(200_000), end_stream=True)
        for _ in range(10):
            pair.exchange()
            for event in pair.take()[0]:
                if hasattr(event, "data"):
                    pair.client.consume(stream_id, len(event.data))
        assert not any(isinstance(event, ConnectionClosed) for event in pair.at_client)
    assert pair.server_stats.inbound_window_update_frames_flood == 0


def test_more_streams_than_allowed_end_the_connection(engines: EngineFactory) -> None:
    raw = Raw(engines, Http2Options(max_concurrent_streams=2))
    raw.send(frame(Kind.SETTINGS, Flag.ACK, 0))
    for stream_id in (1, 3):
        raw.send(frame(Kind.HEADERS, Flag.END_HEADERS, stream_id, raw.encoder.encode(POST)))
    end = closed(raw.request(5))
    assert end is not None
    assert end.code == ErrorCode.PROTOCOL_ERROR
