"""RPC upstreams over real sockets: calls that share a connection, signs of life, and how connections end. Bolt stands for all."""

import struct
import time

import trio

from mosn_xds.base.clock import CachedClock
from mosn_xds.base.errors import ResetReason
from mosn_xds.data.codec.rpc import PoolMode, RpcProtocol, RpcRequest, RpcResponse
from mosn_xds.data.codec.rpc.bolt.options import BoltOptions
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from mosn_xds.data.upstream.api import Stale
from tests.data.upstream.harness import UNLIMITED, Attempt, Upstream, World, limited, run, settled

_FIXED = struct.Struct(">BBHBIBiHHI")
_REPLY = struct.Struct(">BBHBIBHHHI")
_REQUEST, _ONEWAY, _HEARTBEAT, _RPC, _GOAWAY = 1, 2, 0, 1, 100


def call(id: int, *, type: int = _REQUEST, command: int = _RPC, content: bytes = b"hi") -> bytes:
    return _FIXED.pack(1, type, command, 1, id, 1, 3000, 0, 0, len(content)) + content


def reply(id: int, *, status: int = 0, command: int = 2, content: bytes = b"ho") -> bytes:
    return _REPLY.pack(1, 0, command, 1, id, 1, status, 0, 0, len(content)) + content


def bolt(**options: float) -> Bolt:
    return Bolt(BoltOptions(**{"heartbeat_interval_s": 0.0, **options}))


class OneAtATime(Bolt):
    pool = PoolMode.PING_PONG


class Server:
    """The upstream's end of a connection, frame by frame."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._data = b""

    async def frame(self) -> bytes:
        """The next frame; empty at the end of the connection."""
        while len(self._data) < 22 or len(self._data) < 22 + sum(struct.unpack_from(">HHI", self._data, 14)):
            more = bytes(await self.stream.receive_some())
            if not more:
                return b""
            self._data += more
        size = 22 + sum(struct.unpack_from(">HHI", self._data, 14))
        frame, self._data = self._data[:size], self._data[size:]
        return frame

    async def say(self, *frames: bytes) -> None:
        await self.stream.send_all(b"".join(frames))


def id_of(frame: bytes) -> int:
    id: int = struct.unpack_from(">I", frame, 5)[0]
    return id


def request(protocol: RpcProtocol, id: int, **fields: int) -> Attempt:
    head = protocol.from_client(call(id, **fields))
    assert isinstance(head, RpcRequest)
    return Attempt(head)


async def accept(upstream: Upstream) -> Server:
    return Server((await upstream.accept()).stream)


def outcome(attempt: Attempt) -> object:
    """The answer's frame, or how the attempt failed."""
    last = next((event for event in attempt.events if isinstance(event, RpcResponse)), None)
    return last.frame if last is not None else attempt.events[-1]


def figures(world: World) -> dict[str, int]:
    return world.figures("cluster.svc.bolt.")


def test_calls_share_a_connection_under_ids_of_its_own_and_are_answered_in_any_order() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        protocol = bolt()
        attempts = [world.send(cluster, request(protocol, 7)) for _ in range(3)]
        server = await accept(upstream)
        ids = [id_of(await server.frame()) for _ in attempts]
        assert len(set(ids)) == 3
        await server.say(*(reply(id, content=b"%d" % id) for id in reversed(ids)))
        assert [await attempt.over() for attempt in attempts] == ["end"] * 3
        assert [outcome(attempt) for attempt in attempts] == [reply(id, content=b"%d" % id) for id in ids]
        found = world.figures()
        assert (found["upstream_cx_total"], found["upstream_rq_total"]) == (1, 3)

    run(story)


def test_one_way_call_is_over_when_it_is_written_and_is_still_sent() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        attempt = world.send(cluster, request(bolt(), 7, type=_ONEWAY))
        assert await attempt.over() == "end"
        frame = await (await accept(upstream)).frame()
        assert frame[1] == _ONEWAY
        await settled(world)
        assert "upstream_rq_active" not in world.figures()

    run(story)


def test_answer_that_nobody_waits_for_is_counted_and_dropped() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        protocol = bolt()
        given_up, other = (world.send(cluster, request(protocol, id)) for id in (1, 2))
        server = await accept(upstream)
        first, second = id_of(await server.frame()), id_of(await server.frame())
        (await given_up.ready()).reset()
        await server.say(reply(first), reply(999), reply(second))
        assert await other.over() == "end"
        assert figures(world)["response_unmatched"] == 2
        assert given_up.events == ["ready"]

    run(story)


def test_garbage_fails_every_call_of_the_connection_and_the_next_one_finds_another() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        protocol = bolt()
        attempts = [world.send(cluster, request(protocol, id)) for id in (1, 2)]
        server = await accept(upstream)
        ids = [id_of(await server.frame()) for _ in attempts]
        await server.say(reply(ids[0]), b"\x07" * 30)
        assert await attempts[0].over() == "end"
        assert await attempts[1].over() == (ResetReason.PROTOCOL_ERROR, Stale.NO)
        assert await server.frame() == b""
        assert figures(world)["decoding_error"] == 1
        after = world.send(cluster, request(protocol, 3))
        server = await accept(upstream)
        await server.say(reply(id_of(await server.frame())))
        assert await after.over() == "end"

    run(story)


def test_goaway_lets_calls_finish_and_the_next_one_has_a_connection_of_its_own() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        protocol = bolt()
        first = world.send(cluster, request(protocol, 1))
        old = await accept(upstream)
        id = id_of(await old.frame())
        await old.say(call(0, command=_GOAWAY, content=b""))
        while "goaway_received" not in figures(world):
            await settled(world)
        second = world.send(cluster, request(protocol, 2))
        new = await accept(upstream)
        await new.say(reply(id_of(await new.frame())))
        assert await second.over() == "end"
        await old.say(reply(id))
        assert await first.over() == "end"
        assert await old.frame() == b""

    run(story)


def test_lost_connection_says_which_calls_nobody_has_read() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        protocol = bolt()
        first = world.send(cluster, request(protocol, 1))
        server = await accept(upstream)
        await server.say(reply(id_of(await server.frame())))
        assert await first.over() == "end"
        await settled(world)
        second = world.send(cluster, request(protocol, 2))
        await server.frame()
        await server.stream.aclose()
        assert await second.over() == (ResetReason.CONNECTION_TERMINATION, Stale.NO)

    run(story)


def test_breaker_bounds_the_calls_of_a_connection() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port, breakers=limited(max_requests=2))
        protocol = bolt()
        attempts = [world.send(cluster, request(protocol, id)) for id in (1, 2)]
        server = await accept(upstream)
        ids = [id_of(await server.frame()) for _ in attempts]
        refused = world.send(cluster, request(protocol, 3))
        assert await refused.over() == (ResetReason.OVERFLOW, "")
        await server.say(*map(reply, ids))
        assert [await attempt.over() for attempt in attempts] == ["end"] * 2

    run(story)


def test_protocol_without_ids_has_one_call_at_a_time_on_each_connection() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        protocol = OneAtATime(BoltOptions())
        first, second = (world.send(cluster, request(protocol, id)) for id in (1, 2))
        servers = [await accept(upstream) for _ in range(2)]
        for server in servers:
            await server.frame()
            await server.say(reply(4711))  # whatever it says, it answers the only call there is
        assert (await first.over(), await second.over()) == ("end", "end")
        await settled(world)
        third = world.send(cluster, request(protocol, 3))
        (await third.ready()).reset()
        await settled(world)
        assert world.figures()["upstream_cx_active"] == 1  # the answer to what was given up would answer the next call

    run(story)


class FastClock(CachedClock):
    """The real time, and what a test has let pass."""

    __slots__ = ("ahead_s",)

    def __init__(self) -> None:
        self.ahead_s = 0.0
        super().__init__()

    def refresh(self) -> None:
        self.now = time.monotonic() + self.ahead_s
        self.wall_now = time.time() + self.ahead_s


async def pass_time(world: World, clock: FastClock, seconds: float) -> None:
    clock.ahead_s += seconds
    await settled(world)
    world.reactor.clock.refresh()
    world.reactor.timers.advance(world.reactor.clock.now)
    await settled(world)


def test_idle_connection_is_asked_for_hours_and_kept() -> None:
    clock = FastClock()

    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port, idle_timeout_s=None)
        protocol = bolt(heartbeat_interval_s=15.0, heartbeat_timeout_s=5.0)
        first = world.send(cluster, request(protocol, 1))
        server = await accept(upstream)
        await server.say(reply(id_of(await server.frame())))
        assert await first.over() == "end"
        asked = 0
        for _ in range(8 * 60):  # eight hours
            await pass_time(world, clock, 60.0)
            while figures(world).get("heartbeat_sent", 0) > asked:
                frame = await server.frame()
                assert (frame[1], struct.unpack_from(">H", frame, 2)[0]) == (_REQUEST, _HEARTBEAT)
                await server.say(reply(id_of(frame), command=_HEARTBEAT, content=b""))
                asked += 1
                await settled(world)
        assert asked > 400
        assert "heartbeat_timeout" not in figures(world)
        last = world.send(cluster, request(protocol, 2))
        await server.say(reply(id_of(await server.frame())))
        assert await last.over() == "end"
        assert world.figures()["upstream_cx_total"] == 1

    run(story, clock)


def test_peer_that_gives_no_sign_of_life_is_lost_with_its_calls() -> None:
    clock = FastClock()

    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        protocol = bolt(heartbeat_interval_s=15.0, heartbeat_timeout_s=5.0)
        attempt = world.send(cluster, request(protocol, 1))
        server = await accept(upstream)
        await server.frame()
        await pass_time(world, clock, 20.0)
        assert figures(world)["heartbeat_sent"] == 1
        await pass_time(world, clock, 6.0)
        assert await attempt.over() == (ResetReason.CONNECTION_TERMINATION, Stale.NO)
        assert figures(world)["heartbeat_timeout"] == 1

    run(story, clock)


def test_busy_connection_is_not_asked() -> None:
    clock = FastClock()

    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        protocol = bolt(heartbeat_interval_s=15.0)
        first = world.send(cluster, request(protocol, 1))
        server = await accept(upstream)
        await server.say(reply(id_of(await server.frame())))
        assert await first.over() == "end"
        for id in range(5):
            await pass_time(world, clock, 12.0)
            attempt = world.send(cluster, request(protocol, id))
            await server.say(reply(id_of(await server.frame())))
            assert await attempt.over() == "end"
        assert "heartbeat_sent" not in figures(world)

    run(story, clock)


def test_servers_question_is_answered() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        attempt = world.send(cluster, request(bolt(), 1))
        server = await accept(upstream)
        id = id_of(await server.frame())
        await server.say(call(33, command=_HEARTBEAT, content=b""))
        answer = bytes(await server.stream.receive_some())
        assert answer == reply(33, command=_HEARTBEAT, content=b"")
        await server.say(reply(id))
        assert await attempt.over() == "end"

    run(story)


def test_edited_properties_reach_the_server() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        attempt = request(bolt(), 1)
        attempt.head.set(b"x-Tag", b"blue")
        world.send(cluster, attempt)
        frame = await (await accept(upstream)).frame()
        assert frame.endswith(b"\x00\x00\x00\x05x-Tag\x00\x00\x00\x04bluehi")

    run(story)


def test_request_that_fits_into_no_frame_any_more_fails_alone() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port)
        protocol = bolt()
        large, other = request(protocol, 1), request(protocol, 2)
        large.head.set(b"x-Tag", b"b" * 70_000)
        world.send(cluster, large)
        world.send(cluster, other)
        server = await accept(upstream)
        await server.say(reply(id_of(await server.frame())))
        assert await other.over() == "end"
        assert await large.over() == (ResetReason.LOCAL_REFUSED, Stale.NO)

    run(story)


def test_thousands_of_answers_in_one_read_all_arrive() -> None:
    async def story(world: World) -> None:
        upstream = Upstream()
        cluster = world.cluster(upstream.port, breakers=UNLIMITED)
        protocol = bolt()
        attempts = [world.send(cluster, request(protocol, number)) for number in range(1500)]
        server = await accept(upstream)
        ids = [id_of(await server.frame()) for _ in attempts]
        await server.say(*map(reply, ids))
        assert [await attempt.over() for attempt in attempts] == ["end"] * len(attempts)

    run(story)
