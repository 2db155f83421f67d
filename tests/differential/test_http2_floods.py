"""HTTP/2 frames that are legal but sent to wear the proxy down: where the limits are, and what counts them."""

from collections.abc import Callable

import pytest

from tests.differential.bed import Bed, Config, cluster, http_listener, vhost
from tests.differential.http2_link import Http2Link
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.http2_client import Flag, Http2Client, Kind, frame, settings_payload
from tests.support.proxies import ProxyKind
from tests.support.upstream import Upstream, hang

ROUTES = """
- match: {prefix: /direct}
  direct_response: {status: 200, body: {inline_string: hello}}
- match: {prefix: /}
  route: {cluster: a, timeout: 5s}
"""


def manager(name: str, **fields: object) -> Config:
    return http_listener(name, vhost("all", ["*"], ROUTES), **fields)


BED = Bed(
    listeners=[
        manager("http"),
        manager("wide", http2_protocol_options={
            "max_consecutive_inbound_frames_with_empty_payload": 50, "max_inbound_priority_frames_per_stream": 1000,
            "max_inbound_window_update_frames_per_data_frame_sent": 1000,
        }),
        manager("narrow", http2_protocol_options={
            "max_consecutive_inbound_frames_with_empty_payload": 0,
            "max_inbound_priority_frames_per_stream": 3, "max_inbound_window_update_frames_per_data_frame_sent": 1,
        }),
        manager("hasty", stream_idle_timeout="1s"),
    ],
    clusters=[cluster("a")],
    upstreams={"a": Upstream},
)  # fmt: skip

WINDOW = frame(Kind.WINDOW_UPDATE, 0, 0, b"\0\0\0\x01")
PRIORITY = frame(Kind.PRIORITY, 0, 3, b"\0\0\0\0\x10")
PING = frame(Kind.PING, 0, 0, bytes(8))
SETTINGS = frame(Kind.SETTINGS, 0, 0)


def open_request(client: Http2Client) -> bytes:
    return frame(Kind.HEADERS, Flag.END_HEADERS, 1, client.head("POST", "/"))


def empty_data(count: int) -> Callable[[Http2Client], bytes]:
    return lambda client: open_request(client) + frame(Kind.DATA, 0, 1) * count


def padded_data(count: int) -> Callable[[Http2Client], bytes]:
    return lambda client: open_request(client) + frame(Kind.DATA, Flag.PADDED, 1, b"\x05" + bytes(5)) * count


def continuations(count: int) -> Callable[[Http2Client], bytes]:
    def frames(client: Http2Client) -> bytes:
        block = client.head()
        return (
            frame(Kind.HEADERS, Flag.END_STREAM, 1, block)
            + frame(Kind.CONTINUATION, 0, 1) * (count - 1)
            + frame(Kind.CONTINUATION, Flag.END_HEADERS, 1)
        )

    return frames


def windows(count: int) -> Callable[[Http2Client], bytes]:
    return lambda _: WINDOW * count


def priorities(count: int) -> Callable[[Http2Client], bytes]:
    return lambda _: PRIORITY * count


FLOODS = [
    ("http", "empty DATA", empty_data(1), False, None),
    ("http", "empty DATA", empty_data(2), True, "inbound_empty_frames_flood"),
    ("wide", "empty DATA", empty_data(50), False, None),
    ("wide", "empty DATA", empty_data(51), True, "inbound_empty_frames_flood"),
    ("narrow", "empty DATA", empty_data(1), True, "inbound_empty_frames_flood"),
    ("http", "padding alone", padded_data(1), False, None),
    ("http", "padding alone", padded_data(2), True, "inbound_empty_frames_flood"),
    ("http", "empty CONTINUATION", continuations(1), False, None),
    ("http", "empty CONTINUATION", continuations(2), True, "inbound_empty_frames_flood"),
    ("http", "WINDOW_UPDATE", windows(5), False, None),
    ("http", "WINDOW_UPDATE", windows(6), True, "inbound_window_update_frames_flood"),
    ("narrow", "WINDOW_UPDATE", windows(6), True, "inbound_window_update_frames_flood"),
    ("http", "PRIORITY", priorities(100), False, None),
    ("http", "PRIORITY", priorities(101), True, "inbound_priority_frames_flood"),
    ("narrow", "PRIORITY", priorities(4), True, "inbound_priority_frames_flood"),
    ("wide", "PRIORITY", priorities(1000), False, None),
    ("narrow", "PING", lambda _: PING * 15, False, None),
    ("http", "SETTINGS", lambda _: SETTINGS * 15, False, None),
]


def without_upstreams(journal: list[str]) -> list[str]:
    """Whether a request that is broken off has reached the upstream is a matter of time."""
    return [line for line in journal if not line.startswith("upstream")]


@case("HTTP/2 floods: the limits", normalise=without_upstreams)
@pytest.mark.parametrize("number", range(len(FLOODS)), ids=[f"{row[1]}-{row[0]}-{row[3]}" for row in FLOODS])
def test_floods(world: World, number: int) -> None:
    listener, _, frames, closes, counter = FLOODS[number]
    world.upstream("a").script(hang())
    before = world.proxy.stats("^http2[.]")
    with Http2Link(world, listener) as link:
        link.raw.send(frames(link.raw))
        answered = link.raw.synchronise(3.0)
        world.note("closed", link.raw.closed)
        assert (link.raw.closed, answered) == (closes, not closes)
    if counter is not None:
        world.expect_stats({f"http2.{counter}": before.get(f"http2.{counter}", 0) + 1})


@case("HTTP/2 floods: what a served stream allows")
def test_window_updates_of_a_reader(world: World) -> None:
    with Http2Link(world) as link:
        for _ in range(200):
            assert link.request(path="/direct", logged=False).body == b"hello"
            link.raw.send(WINDOW * 10)
        assert link.raw.synchronise()
    world.await_log("http", 200)


@case("HTTP/2 floods: a stream opened only to be reset", normalise=without_upstreams)
def test_rapid_reset(world: World) -> None:
    with Http2Link(world) as link:
        for _ in range(600):  # one that is answered before its reset arrives does not count
            stream_id = link.send(path="/x")
            link.raw.reset(stream_id)
            if not link.raw.synchronise(10.0):
                break
        assert link.raw.closed
    world.expect_stats({"http.http.downstream_rq_too_many_premature_resets": 1})


@case("HTTP/2 floods: a SETTINGS frame with many entries")
def test_settings_with_many_entries(world: World) -> None:
    with Http2Link(world) as link:
        payload = b"".join(settings_payload({0x1000 + n: 1}) for n in range(33))
        link.raw.send_frame(Kind.SETTINGS, 0, 0, payload)
        world.note("answered", link.raw.synchronise(2.0))


@case("HTTP/2 floods: a header bomb of many references to one large field", difference="http-two-header-bomb")
def test_a_header_bomb(world: World) -> None:
    with Http2Link(world) as link:
        block = link.raw.head(fields=[("x-large", "y" * 3000)])
        link.raw.send(link.raw.section(1, block + b"\xbe" * 3000, end=True))
        link.raw.read_until(lambda: link.raw.seen(1).over, 3.0)
        ours = world.kind is not ProxyKind.ENVOY
        assert (link.raw.seen(1).reset, link.raw.closed) == ((None, True) if ours else (2, False))


@case("HTTP/2 floods: answers that the client asks for and leaves no window for")
def test_answers_without_a_window(world: World) -> None:
    with Http2Link(world, "hasty", settings={4: 0}, refill=False) as link:
        stuck = [link.send(path="/direct") for _ in range(3)]
        link.raw.read_until(lambda: all(link.raw.seen(one).over for one in stuck), 4.0)
        assert [(link.raw.seen(one).status, link.raw.seen(one).reset) for one in stuck] == [(200, 2)] * 3
        assert link.raw.synchronise()
        link.raw.send_frame(Kind.SETTINGS, 0, 0, settings_payload({4: 65535}))
        assert link.request(path="/direct", logged=False).body == b"hello"
    world.await_log("hasty", 4)
    world.expect_stats({"http2.tx_flush_timeout": 3})
