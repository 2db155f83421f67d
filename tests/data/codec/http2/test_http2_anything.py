"""Whatever a peer sends, a codec answers with events: it never raises, and never says more behind the end."""

from random import Random

import hpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mosn_xds.data.codec.events import (
    BadRequest,
    BadResponse,
    ConnectionClosed,
    Data,
    Event,
    RequestStarted,
    ResponseStarted,
    StreamReset,
    Trailers,
)
from mosn_xds.data.codec.http2 import (
    PREFACE,
    EngineFactory,
    Http2ClientCodec,
    Http2Options,
    Http2ServerCodec,
    Http2Stats,
    h2_engine,
    ngh2_engine,
)
from tests.support.http2_client import Flag, Kind, frame
from tests.support.http2_pair import answer, get

FIELDS = st.sampled_from([
    (":method", "GET"), (":method", "CONNECT"), (":scheme", "http"), (":authority", "test"), (":path", "/"),
    (":status", "200"), (":status", "103"), (":status", "101"), (":protocol", "websocket"), ("x", "y"), ("X", "y"),
    ("content-length", "3"), ("content-length", "x"), ("cookie", "a"), ("connection", "close"), ("te", "trailers"),
    ("x_y", "1"), ("host", "test"), ("x", "a\0"), ("", "x"),
])  # fmt: skip
WHOLE = [(":method", "POST"), (":scheme", "http"), (":authority", "test"), (":path", "/")]
BLOCKS = st.one_of(
    st.binary(max_size=20),
    st.lists(FIELDS, max_size=6).map(lambda fields: hpack.Encoder().encode(fields)),
    st.lists(FIELDS, max_size=2).map(lambda fields: hpack.Encoder().encode(WHOLE + fields)),
    st.just(hpack.Encoder().encode([(":status", "200"), ("x", "y")])),
)
FRAMES = st.one_of(
    st.builds(frame, st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=24)),
    st.builds(frame, st.just(Kind.HEADERS), st.sampled_from([4, 5, 0, 0x2D]), st.sampled_from([1, 3, 5, 7]), BLOCKS),
    st.builds(frame, st.just(Kind.DATA), st.sampled_from([0, 1, 8]), st.sampled_from([1, 3, 5]), st.binary(max_size=9)),
    st.builds(frame, st.just(Kind.RST_STREAM), st.just(0), st.sampled_from([1, 3]), st.just(b"\0\0\0\x08")),
    st.builds(frame, st.just(Kind.GOAWAY), st.just(0), st.just(0), st.binary(min_size=8, max_size=12)),
    st.builds(frame, st.just(Kind.SETTINGS), st.sampled_from([0, 1]), st.just(0), st.sampled_from([b"", bytes(6)])),
    st.builds(
        frame, st.just(Kind.WINDOW_UPDATE), st.just(0), st.sampled_from([0, 1]), st.binary(min_size=4, max_size=4)
    ),
)
ENGINES = st.sampled_from([ngh2_engine, h2_engine])
SOME = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check_order(told: list[Event], *, server: bool) -> None:
    """A message begins once and ends once; nothing follows a stream's reset, nor the connection's end."""
    begun: set[int] = set()
    complete: set[int] = set()
    gone: set[int] = set()
    for at, event in enumerate(told):
        if isinstance(event, ConnectionClosed):
            assert at == len(told) - 1
            continue
        stream_id = getattr(event, "stream_id", 0)
        if not stream_id:
            continue
        assert stream_id not in gone, event
        if isinstance(event, StreamReset | BadRequest | BadResponse):
            assert not server or isinstance(event, BadRequest) or stream_id in begun
            gone.add(stream_id)
            continue
        assert stream_id not in complete, event
        if isinstance(event, RequestStarted | ResponseStarted):
            assert stream_id not in begun
            begun.add(stream_id)
        elif isinstance(event, Data | Trailers):
            assert stream_id in begun, event
        if isinstance(event, Trailers) or getattr(event, "end_stream", False):
            complete.add(stream_id)


@SOME
@given(ENGINES, st.lists(FRAMES, max_size=12), st.integers(1, 200), st.booleans(), st.randoms(use_true_random=False))
def test_a_server(engines: EngineFactory, frames: list[bytes], size: int, lenient: bool, chance: Random) -> None:
    options = Http2Options(stream_errors=lenient, allow_connect=lenient, max_headers_count=8)
    codec = Http2ServerCodec(engines, options, Http2Stats("http2."))
    sent = PREFACE + frame(Kind.SETTINGS, 0, 0) + b"".join(frames)
    told: list[Event] = []
    ours_reset: set[int] = set()
    for at in range(0, len(sent), size):
        events = codec.receive(sent[at : at + size])
        _, more = codec.flush()
        for event in events + more:
            if getattr(event, "stream_id", None) in ours_reset:
                continue
            told.append(event)
            if isinstance(event, RequestStarted):
                match chance.randrange(4):
                    case 0:
                        codec.send_head(event.stream_id, answer(), end_stream=True)
                    case 1:
                        codec.send_informational(event.stream_id, answer(103))
                        codec.send_head(event.stream_id, answer(), end_stream=False)
                        codec.send_data(event.stream_id, b"abc", end_stream=False)
                        codec.send_trailers(event.stream_id, [(b"x", b"y")])
                    case 2:
                        ours_reset.add(event.stream_id)
                        codec.reset(event.stream_id, 2)
            elif isinstance(event, Data):
                codec.consume(event.stream_id, len(event.data))
    check_order([e for e in told if getattr(e, "stream_id", None) not in ours_reset], server=True)
    codec.flush()
    codec.close()
    assert codec.stats.streams_active == 0


@SOME
@given(ENGINES, st.lists(FRAMES, max_size=12), st.integers(1, 200), st.booleans())
def test_a_client(engines: EngineFactory, frames: list[bytes], size: int, lenient: bool) -> None:
    options = Http2Options(stream_errors=lenient, max_headers_count=8)
    codec = Http2ClientCodec(engines, options, Http2Stats("cluster.a.http2."))
    assert codec.send_head(get(), end_stream=False) == 1
    assert codec.send_head(get(upgrade=b"websocket"), end_stream=False) == 3
    assert codec.send_head(get(), end_stream=True) == 5
    codec.send_data(1, b"abc", end_stream=True)
    codec.flush()
    told: list[Event] = []
    sent = frame(Kind.SETTINGS, Flag.NONE, 0) + b"".join(frames)
    for at in range(0, len(sent), size):
        events = codec.receive(sent[at : at + size])
        _, more = codec.flush()
        told += events + more
    check_order(told, server=False)
    codec.flush()
    codec.close()
    assert codec.stats.streams_active == 0
