"""Wires over real sockets: data both ways, ends of all kinds, back-pressure, and that nothing is left behind."""

import errno
import gc
import os
import socket
import weakref

import pytest
import trio
import trio.testing

from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.wire import Wire
from mosn_xds.spec.common import Address
from tests.support.wires import Recorder, run_reactor, tcp_pair


def make_wire(reactor: Reactor, sock: socket.socket, **options) -> Recorder:
    recorder = Recorder()
    recorder.wire = Wire(reactor, sock, recorder, **options)
    recorder.wire.start()
    return recorder


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


# Data.


def test_bytes_go_both_ways() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        await far.send_all(b"request")
        await above.until("data")
        above.wire.write(b"resp")
        above.wire.write_many([b"on", b"se"])
        assert await far.receive_some() == b"response"
        assert above.data == b"request"
        assert (above.wire.bytes_received, above.wire.bytes_sent, above.wire.pending_bytes) == (7, 8, 0)

    run_reactor(story)


def test_what_was_sent_before_the_wire_existed_is_delivered() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        await far.send_all(b"early")
        await far.send_eof()
        above = make_wire(reactor, near)
        await above.until("eof")
        assert above.events == ["data", "eof"]

    run_reactor(story)


def test_writes_of_one_batch_leave_in_one_segment() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)

        def answer(event: object) -> None:
            for n in range(5):
                above.wire.write(b"%d" % n)

        above.on_event = answer
        await far.send_all(b"go")
        assert await far.receive_some() == b"01234"

    run_reactor(story)


@pytest.mark.parametrize("parts", [[b"x" * 1_000_000], [b"y" * 1000] * 1000, [b"z"] * 5000 + [b"w" * 300_000, b"v"]])
def test_large_output_arrives_whole_and_in_order(parts: list[bytes]) -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair(buffer_bytes=20_000)
        above = make_wire(reactor, near)
        above.wire.write_many(parts)
        above.wire.write(memoryview(b"the end"))
        above.wire.shutdown_write()
        assert await read_all(far) == b"".join(parts) + b"the end"
        assert above.wire.pending_bytes == 0

    run_reactor(story)


def test_large_input_arrives_whole_and_others_have_their_turn_meanwhile() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        other_near, other_far = tcp_pair()
        other = make_wire(reactor, other_near)
        received_when_other_was_served: list[int] = []
        other.on_event = lambda event: received_when_other_was_served.append(len(above.data))
        payload = os.urandom(8_000_000)

        async def send() -> None:
            await far.send_all(payload)
            await far.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await above.until("data")
            await other_far.send_all(b"x")
            await above.until("eof")
        assert above.data == payload
        assert received_when_other_was_served[0] < len(payload)

    run_reactor(story)


# Ends.


def test_each_direction_ends_on_its_own_and_with_both_the_connection_is_finished() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        await far.send_all(b"last words")
        await far.send_eof()
        await above.until("eof")
        assert above.data == b"last words"
        above.wire.write(b"answer")
        above.wire.shutdown_write()
        assert await read_all(far) == b"answer"
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.FINISHED

    run_reactor(story)


def test_our_end_may_come_first() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        above.wire.write(b"question")
        above.wire.shutdown_write()
        above.wire.write(b"too late")
        assert await read_all(far) == b"question"
        await far.send_all(b"answer")
        await far.aclose()
        await above.until(lambda r: r.closed)
        assert above.data == b"answer"
        assert above.events[-2:] == ["eof", CloseReason.FINISHED]

    run_reactor(story)


def test_a_close_flushes_what_was_written() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair(buffer_bytes=20_000)
        above = make_wire(reactor, near)
        above.wire.write(b"x" * 500_000)
        above.wire.close()
        assert not above.wire.is_open
        assert len(await read_all(far)) == 500_000
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.LOCAL

    run_reactor(story)


def test_a_close_without_flush_drops_what_was_written() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        above.wire.write(b"never")
        above.wire.close(flush=False)
        assert await read_all(far) == b""
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.LOCAL

    run_reactor(story)


def test_an_abort_resets_the_connection() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        above.wire.write(b"never")
        above.wire.abort()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await far.receive_some()
        assert caught.value.__cause__.errno == errno.ECONNRESET
        assert above.closed is CloseReason.LOCAL

    run_reactor(story)


def test_no_close_calls_the_consumer_back_before_it_returns() -> None:
    async def story(reactor: Reactor) -> None:
        for end in (lambda w: w.close(), lambda w: w.close(flush=False), lambda w: w.abort()):
            near, far = tcp_pair()
            above = make_wire(reactor, near)
            seen: list[object] = []

            def stop(event: object, above: Recorder = above, end=end, seen: list = seen) -> None:
                if event == "data":
                    end(above.wire)
                    seen.append(above.closed)

            above.on_event = stop
            await far.send_all(b"x")
            await above.until(lambda r: r.closed)
            assert seen == [None]
            assert above.events == ["data", CloseReason.LOCAL]
            await far.aclose()

    run_reactor(story)


def test_a_delayed_close_ends_when_the_peer_ends() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        above.wire.write(b"goodbye")
        above.wire.close(delay_s=60)
        assert await read_all(far) == b"goodbye"
        assert above.closed is None
        await far.aclose()
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.LOCAL

    run_reactor(story)


def test_a_delayed_close_keeps_unread_input_from_destroying_the_answer() -> None:
    """A client that is still sending its body reads the early answer: no reset overtakes it."""

    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)

        def refuse(event: object) -> None:
            if event == "data":
                above.wire.write(b"413")
                above.wire.close(delay_s=60)

        above.on_event = refuse
        await far.send_all(b"x" * 3_000_000)
        assert await read_all(far) == b"413"
        await far.aclose()
        await above.until(lambda r: r.closed)
        assert above.events == ["data", CloseReason.LOCAL]

    run_reactor(story)


def test_a_delayed_close_does_not_wait_for_ever() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        above.wire.close(delay_s=0.02)
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.DELAYED_CLOSE_TIMEOUT
        await far.aclose()

    run_reactor(story)


def test_a_delayed_close_gives_up_a_peer_that_takes_nothing() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair(buffer_bytes=10_000)
        above = make_wire(reactor, near)
        above.wire.write(b"x" * 1_000_000)
        above.wire.close(delay_s=0.02)
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.DELAYED_CLOSE_TIMEOUT
        await far.aclose()

    run_reactor(story)


def test_a_reset_is_reported_with_its_cause() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        await far.send_all(b"x")
        await above.until("data")
        reset(far)
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.REMOTE_RESET
        assert above.wire.error.errno == errno.ECONNRESET

    run_reactor(story)


def test_data_before_a_reset_is_delivered() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        await far.send_all(b"x" * 100_000)
        reset(far)
        above = make_wire(reactor, near)
        await above.until(lambda r: r.closed)
        assert above.data == b"x" * 100_000
        assert above.closed is CloseReason.REMOTE_RESET

    run_reactor(story)


def test_a_failed_send_still_delivers_what_the_peer_sent_before() -> None:
    """The peer answers early and goes: our next bytes fail, its answer must not get lost."""

    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        await trio.testing.wait_all_tasks_blocked()
        await far.send_all(b"413")
        break_sending(near)
        above.wire.write(b"more of the body")
        await above.until(lambda r: r.closed)
        assert above.data == b"413"
        assert above.closed is CloseReason.REMOTE_RESET
        assert above.wire.error.errno == errno.EPIPE
        await far.aclose()

    run_reactor(story)


def break_sending(sock: socket.socket) -> None:
    with socket.socket(fileno=os.dup(sock.fileno())) as twin:
        twin.shutdown(socket.SHUT_WR)


def reset(stream: trio.SocketStream) -> None:
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.socket.close()


# Back-pressure.


def test_paused_reading_delivers_nothing_until_every_reason_is_gone() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        above.wire.pause_reading()
        above.wire.pause_reading()
        await far.send_all(b"later")
        await trio.testing.wait_all_tasks_blocked(0.01)
        above.wire.resume_reading()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert above.events == []
        above.wire.resume_reading()
        await above.until("data")
        assert above.data == b"later"

    run_reactor(story)


def test_pausing_inside_on_data_keeps_the_rest_for_later() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        above.on_event = lambda event: above.wire.pause_reading() if event == "data" else None

        async def send() -> None:
            await far.send_all(b"x" * 500_000)
            await far.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await above.until("data")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert above.events == ["data"]
            while "eof" not in above.events:
                before = len(above.events)
                above.wire.resume_reading()
                await above.until(lambda r, before=before: len(r.events) > before)
        assert above.data == b"x" * 500_000

    run_reactor(story)


def test_a_slow_peer_raises_high_water_and_later_low_water() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair(buffer_bytes=10_000)
        above = make_wire(reactor, near, buffer_limit_bytes=100_000)
        above.wire.write(b"x" * 99_000)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert above.events == []
        above.wire.write(b"x" * 200_000)
        await above.until("high")
        above.wire.write(b"x" * 1000)
        received = 0
        while received < 300_000:
            pending = above.wire.pending_bytes
            assert ("low" in above.events) == (pending <= 50_000)
            received += len(await far.receive_some())
            await trio.testing.wait_all_tasks_blocked()
        assert above.events == ["high", "low"]

    run_reactor(story)


def test_a_reset_is_seen_while_reading_is_paused() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        above.wire.pause_reading()
        reset(far)
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.REMOTE_RESET
        assert above.wire.error.errno == errno.ECONNRESET

    run_reactor(story)


@pytest.mark.parametrize("early_close", [False, True])
def test_a_fin_while_reading_is_paused(early_close: bool) -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        above.wire.early_close = early_close
        above.wire.pause_reading()
        await far.send_all(b"unread")
        await far.send_eof()
        if early_close:
            await above.until(lambda r: r.closed)
            assert above.events == [CloseReason.REMOTE_CLOSE]
        else:
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert above.events == []
            above.wire.resume_reading()
            await above.until("eof")
            assert above.data == b"unread"

    run_reactor(story)


def test_a_reset_after_the_peers_fin_is_seen() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        await far.send_eof()
        await above.until("eof")
        reset(far)
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.REMOTE_RESET

    run_reactor(story)


# Bulk.


def test_bulk_mode_copies_between_two_wires_with_back_pressure() -> None:
    async def story(reactor: Reactor) -> None:
        source_near, source_far = tcp_pair()
        sink_near, sink_far = tcp_pair(buffer_bytes=30_000)
        source = make_wire(reactor, source_near)
        sink = make_wire(reactor, sink_near, buffer_limit_bytes=50_000)
        most_pending = 0

        def steer(event: object) -> None:
            if event == "high":
                source.wire.pause_reading()
            elif event == "low":
                source.wire.resume_reading()

        def copy(view: memoryview) -> None:
            nonlocal most_pending
            sink.wire.write_through(view)
            most_pending = max(most_pending, sink.wire.pending_bytes)

        sink.on_event = steer
        source.on_event = lambda event: sink.wire.shutdown_write() if event == "eof" else None
        source.wire.set_bulk(copy)
        payload = os.urandom(5_000_000)
        received = b""

        async def send() -> None:
            await source_far.send_all(payload)
            await source_far.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            received = await read_all(sink_far)
        assert received == payload
        assert most_pending <= 50_000 + len(reactor.scratch)
        assert sink.events.count("high") == sink.events.count("low") > 1

    run_reactor(story)


def test_a_send_that_fails_in_bulk_mode_ends_the_wire_after_its_caller_returned() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        break_sending(near)
        above.wire.write_through(memoryview(b"x"))
        assert above.closed is None
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.REMOTE_RESET
        assert above.wire.error.errno == errno.EPIPE
        await far.aclose()

    run_reactor(story)


# Failures, hand-over, memory.


def test_a_consumer_that_raises_loses_its_connection_and_no_other() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        other_near, other_far = tcp_pair()
        above = make_wire(reactor, near)
        other = make_wire(reactor, other_near)

        def fail(event: object) -> None:
            if event == "data":
                raise ValueError("broken codec")

        above.on_event = fail
        await far.send_all(b"x")
        await above.until(lambda r: r.closed)
        assert above.closed is CloseReason.HANDLER_FAILED
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()
        await other_far.send_all(b"x")
        await other.until("data")
        assert reactor.failures == 1

    run_reactor(story)


def test_a_detached_connection_goes_on_elsewhere_with_its_unread_bytes() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)

        def give_back(event: object) -> None:
            above.wire.pause_reading()
            above.wire.unread(above.data)

        above.on_event = give_back
        await far.send_all(b"pipelined")
        await above.until("data")
        fd, unread = above.wire.detach()
        assert unread == b"pipelined"
        assert above.wire.is_closed
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert above.events == ["data"]
        heir = make_wire(reactor, socket.socket(fileno=fd))
        await far.send_all(b"more")
        await heir.until("data")
        heir.wire.write(b"served")
        assert await far.receive_some() == b"served"

    run_reactor(story)


def test_a_wire_with_pending_output_cannot_be_detached() -> None:
    async def story(reactor: Reactor) -> None:
        near, _far = tcp_pair()
        above = make_wire(reactor, near)
        above.wire.write(b"x")
        with pytest.raises(RuntimeError, match="cannot be detached"):
            above.wire.detach()

    run_reactor(story)


def test_bytes_that_were_given_back_come_first_to_the_next_consumer() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        first, second = Recorder(), Recorder()
        first.wire = second.wire = wire = Wire(reactor, near, first)
        wire.start()

        def switch(event: object) -> None:
            wire.pause_reading()
            wire.unread(first.data[5:])
            wire.consumer = second

        first.on_event = switch
        await far.send_all(b"firstsecond")
        await first.until("data")
        await far.send_all(b" and more")
        wire.resume_reading()
        await second.until(lambda r: r.data.endswith(b"more"))
        assert second.data == b"second and more"
        assert first.events == ["data"]

    run_reactor(story)


def test_addresses_are_known_and_stay_known_once_asked() -> None:
    async def story(reactor: Reactor) -> None:
        near, far = tcp_pair()
        above = make_wire(reactor, near)
        here, there = Address(*near.getsockname()), Address(*near.getpeername())
        assert above.wire.local_address == here
        assert above.wire.remote_address == there
        assert f"{here} - {there} open" in repr(above.wire)
        above.wire.close()
        await above.until(lambda r: r.closed)
        assert (above.wire.local_address, above.wire.remote_address) == (here, there)
        await far.aclose()

    run_reactor(story)


def test_a_closed_connection_leaves_no_cycle_and_no_descriptor() -> None:
    async def story(reactor: Reactor) -> None:
        gc.collect()
        gc.disable()
        try:
            descriptors = set(os.listdir("/proc/self/fd"))
            for how in ("finished", "aborted", "reset", "closed"):
                near, far = tcp_pair()
                above = make_wire(reactor, near)
                watched = weakref.ref(above)
                await far.send_all(b"x")
                await above.until("data")
                above.wire.write(b"y")
                if how == "finished":
                    await far.send_eof()
                    above.wire.shutdown_write()
                elif how == "aborted":
                    above.wire.abort()
                elif how == "closed":
                    above.wire.close(delay_s=60)
                    await far.send_eof()
                else:
                    reset(far)
                await above.until(lambda r: r.closed)
                del near, above
                await far.aclose()
                assert watched() is None, how
            await trio.testing.wait_all_tasks_blocked()
            assert set(os.listdir("/proc/self/fd")) == descriptors
        finally:
            gc.enable()

    run_reactor(story)
