"""Real workers under a real supervisor: replacement, crash loops, refusals, shutdown, the death of the spawner."""

import os
import signal
import socket
import time

import msgspec
import pytest
import trio

from mosn_xds.process.supervise import WorkerState, restart_delay_s
from mosn_xds.spec import feed
from mosn_xds.spec.listener import TrafficDirection
from mosn_xds.spec.snapshot import Kind
from tests.process.mesh import (
    ask,
    cluster,
    endpoints,
    is_alive,
    listener,
    mapped_files,
    pids_that_answer,
    serving,
    snapshot,
    supervisor,
    until,
)
from tests.support.ports import PortAllocator

PORTS = PortAllocator()


def test_all_workers_serve_one_port() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port)))
            assert await pids_that_answer(port) == {slot.pid for slot in found.slots}

    trio.run(main)


@pytest.mark.alone
def test_killed_worker_is_replaced_within_a_second_while_the_other_ones_connections_stay() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port)))
            victim, other = found.slots
            dead = victim.pid
            streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(20)]
            by_pid: dict[int, list[trio.SocketStream]] = {}
            for stream in streams:
                await stream.send_all(b"hello\n")
                by_pid.setdefault(int((await stream.receive_some()).split()[0]), []).append(stream)
            os.kill(dead, signal.SIGKILL)
            with trio.fail_after(1):
                await until(lambda: victim.pid not in (0, dead) and victim.state is WorkerState.SERVING)
            for stream in by_pid[other.pid]:
                await stream.send_all(b"hello\n")
                assert int((await stream.receive_some()).split()[0]) == other.pid
            assert await pids_that_answer(port) == {victim.pid, other.pid}
            assert victim.last_exit == "killed by SIGKILL"

    trio.run(main)


def test_connections_in_a_dead_workers_queue_are_accepted_by_its_sibling() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port)))
            victim = found.slots[0]
            os.kill(victim.pid, signal.SIGSTOP)
            streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(40)]
            for stream in streams:
                await stream.send_all(b"hello\n")
            os.kill(victim.pid, signal.SIGKILL)
            answers = 0
            with trio.fail_after(10):
                for stream in streams:
                    answers += (await stream.receive_some()) != b""
            assert answers == 40

    trio.run(main)


@pytest.mark.alone
def test_no_connection_waits_while_one_worker_of_two_is_in_a_crash_loop() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port)))
            steady = found.slots[1].pid
            found.publish(snapshot(listener(port), endpoints("poison", region="0")))
            await until(lambda: found.slots[0].state is WorkerState.BACKING_OFF)
            slowest = 0.0
            waited_until = trio.current_time() + 3
            while trio.current_time() < waited_until:
                start = trio.current_time()
                assert int((await ask(port)).split()[0]) == steady
                slowest = max(slowest, trio.current_time() - start)
            assert slowest < 0.5
            assert found.slots[0].quick_deaths >= 4

            found.publish(snapshot(listener(port)))
            await until(lambda: found.slots[0].state is WorkerState.SERVING, 20)
            assert len(await pids_that_answer(port)) == 2

    trio.run(main)


def test_clients_are_refused_while_every_worker_backs_off_and_served_again_afterwards() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(1) as found:
            await serving(found, snapshot(listener(port)))
            found.publish(snapshot(listener(port), endpoints("poison", region="0")))
            await until(lambda: found.slots[0].retry_at > trio.current_time() + 1)
            with socket.socket() as sock:
                assert sock.connect_ex(("127.0.0.1", port)) != 0
            found.publish(snapshot(listener(port)))
            await until(lambda: found.slots[0].state is WorkerState.SERVING, 20)
            assert await pids_that_answer(port, 2) == {found.slots[0].pid}

    trio.run(main)


def test_back_off_starts_with_an_immediate_replacement_and_is_capped() -> None:
    assert [restart_delay_s(n) for n in range(5)] == [0, 0, 0.1, 0.2, 0.4]
    assert restart_delay_s(1000) == 30


def test_worker_that_hangs_is_ended_with_its_stacks_and_replaced(monkeypatch, capfd) -> None:
    monkeypatch.setattr("mosn_xds.process.feed.PING_INTERVAL_S", 0.25)

    async def main() -> None:
        port = PORTS.take()
        async with supervisor(1) as found:
            await serving(found, snapshot(listener(port)))
            slot = found.slots[0]
            stuck = slot.pid
            with monkeypatch.context() as shorter:
                shorter.setattr("mosn_xds.process.feed.SILENCE_LIMIT_S", 1.5)
                assert await ask(port, "hang") == ""
                await until(lambda: slot.last_exit != "")
            assert slot.last_exit == "killed by SIGABRT"
            await until(lambda: slot.state is WorkerState.SERVING and slot.pid not in (0, stuck))
            assert await pids_that_answer(port, 1) == {slot.pid}

    trio.run(main)
    assert "echo_engine.py" in capfd.readouterr().err


def test_agent_that_was_held_up_itself_does_not_take_it_out_on_its_workers(monkeypatch) -> None:
    monkeypatch.setattr("mosn_xds.process.feed.PING_INTERVAL_S", 0.1)

    async def main() -> None:
        port = PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port)))
            monkeypatch.setattr("mosn_xds.process.feed.SILENCE_LIMIT_S", 1.2)
            before = [slot.pid for slot in found.slots]
            time.sleep(2.5)  # noqa: ASYNC251 - that is the point
            await trio.sleep(0.5)
            assert [slot.pid for slot in found.slots] == before

    trio.run(main)


def test_what_a_worker_refuses_is_replaced_by_the_last_good_for_all() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port), cluster("c")))
            await serving(found, snapshot(listener(port), cluster("c"), endpoints("bad"), endpoints("e")))
            await until(lambda: (Kind.ENDPOINTS, "bad") in found.attainable.refusals)
            number = found.published.generation
            await until(lambda: found.applied(number))
            assert "this cannot be built" in found.attainable.refusals[Kind.ENDPOINTS, "bad"].reason
            assert (Kind.ENDPOINTS, "bad") not in found.published.items
            assert (Kind.ENDPOINTS, "e") in found.published.items
            assert len(await pids_that_answer(port)) == 2
            # Once it is gone from the configuration there is nothing to show any more.
            await serving(found, snapshot(listener(port), cluster("c")))
            assert not found.attainable.refusals

    trio.run(main)


def test_listener_on_a_strangers_port_is_left_out_with_the_reason_and_served_once_free() -> None:
    async def main() -> None:
        port, taken = PORTS.take(), PORTS.take()
        stranger = socket.create_server(("127.0.0.1", taken))
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port), listener(taken, name="late")))
            assert (
                str(found.attainable.unbound["late"])
                == f"address: cannot bind '127.0.0.1:{taken}': Address already in use"
            )
            assert len(await pids_that_answer(port)) == 2
            stranger.close()
            await until(lambda: not found.attainable.unbound)
            number = found.published.generation
            await until(lambda: found.applied(number))
            assert len(await pids_that_answer(taken)) == 2

    trio.run(main)


def test_stopped_listeners_refuse_connections_and_stay_stopped() -> None:
    async def main() -> None:
        outbound, inbound = PORTS.take(), PORTS.take()
        incoming = msgspec.structs.replace(listener(inbound, name="in"), direction=TrafficDirection.INBOUND)
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(outbound), incoming))
            found.stop_listeners(inbound_only=True)
            await until(lambda: found.is_settled() and len(found.sockets.bound()) == 1)
            with pytest.raises(OSError):
                await ask(inbound)
            assert len(await pids_that_answer(outbound)) == 2
            # Neither an update nor a new worker brings it back.
            victim = found.slots[0]
            dead = victim.pid
            os.kill(dead, signal.SIGKILL)
            await until(lambda: victim.pid not in (0, dead) and victim.state is WorkerState.SERVING)
            await serving(found, snapshot(listener(outbound), incoming, cluster("c")))
            with pytest.raises(OSError):
                await ask(inbound)

    trio.run(main)


def test_workers_that_share_one_socket_both_accept_from_it() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port, reuse_port=False)))
            victim = found.slots[0]
            dead = victim.pid
            os.kill(dead, signal.SIGKILL)
            for _ in range(20):
                assert await ask(port)
            await until(lambda: victim.pid not in (0, dead) and victim.state is WorkerState.SERVING)
            for _ in range(20):
                assert await ask(port)

    trio.run(main)


def test_removed_listener_frees_its_port() -> None:
    async def main() -> None:
        port, other = PORTS.take(), PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port), listener(other, name="other")))
            await serving(found, snapshot(listener(other, name="other")))
            await until(lambda: len(found.sockets.bound()) == 1)
            with socket.create_server(("127.0.0.1", port)):
                pass

    trio.run(main)


def test_limits_hold_over_workers_and_a_dead_workers_share_is_given_back() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port), cluster("c")))
            seen = [int(await ask(port, "limits")) for _ in range(20)]
            assert seen == list(range(1, 21))
            victim = found.slots[0]
            dead = victim.pid
            os.kill(dead, signal.SIGKILL)
            await until(lambda: victim.pid not in (0, dead) and victim.state is WorkerState.SERVING)
            assert int(await ask(port, "limits")) < 20

    trio.run(main)


def test_counters_never_fall_and_gauges_lose_a_dead_workers_share() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(1) as found:
            totals = found.totals
            await serving(found, snapshot(listener(port)))
            streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(3)]
            for stream in streams:
                await stream.send_all(b"hello\n")
                await stream.receive_some()
            await until(lambda: totals.value("echo.lines") == 3 and totals.value("echo.active") == 3)
            slot = found.slots[0]
            dead = slot.pid
            os.kill(dead, signal.SIGKILL)
            await until(lambda: slot.pid not in (0, dead) and slot.state is WorkerState.SERVING)
            assert totals.value("echo.lines") == 3
            assert totals.value("echo.active") == 0
            assert await ask(port)
            await until(lambda: totals.value("echo.lines") == 4)

    trio.run(main)


def test_shutdown_lets_connections_finish_and_leaves_no_process() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port)))
            pids = [slot.pid for slot in found.slots]
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"hello\n")
            holder = int((await stream.receive_some()).split()[0])
            found.begin_shutdown(limit_s=20, idle_s=0.1)
            # The worker without a connection goes first; whoever is left serves all of the port.
            await until(lambda: sum(slot.pid != 0 for slot in found.slots) == 1)
            assert await pids_that_answer(port, 20) == {holder}
            await stream.aclose()
            await until(lambda: all(slot.state is WorkerState.DRAINED for slot in found.slots))
            assert not any(is_alive(pid) for pid in pids)

    trio.run(main)


@pytest.mark.alone
def test_shutdown_ends_at_its_limit() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(1) as found:
            await serving(found, snapshot(listener(port)))
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"hello\n")
                await stream.receive_some()
                start = trio.current_time()
                found.begin_shutdown(limit_s=0.5, idle_s=0.1)
                await until(lambda: found.slots[0].state is WorkerState.DRAINED)
                assert 0.4 < trio.current_time() - start < 1.5

    trio.run(main)


def test_workers_survive_the_spawner_and_are_replaced_by_the_next_one() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port)))
            before = {slot.pid for slot in found.slots}
            spawner = found.spawner.pid
            assert spawner is not None
            os.kill(spawner, signal.SIGKILL)
            await until(lambda: found.spawner.restarts == 1)
            assert await pids_that_answer(port) == before
            victim = found.slots[0]
            dead = victim.pid
            os.kill(dead, signal.SIGKILL)
            await until(lambda: victim.pid not in (0, dead) and victim.state is WorkerState.SERVING)
            assert len(await pids_that_answer(port)) == 2

    trio.run(main)


def test_what_was_said_to_all_is_said_to_a_replacement() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(1) as found:
            await serving(found, snapshot(listener(port)))
            found.tell_all(feed.SetHealthFailed(True), remember_as="health")
            slot = found.slots[0]
            dead = slot.pid
            os.kill(dead, signal.SIGKILL)
            await until(lambda: slot.pid not in (0, dead) and slot.state is WorkerState.SERVING)
            assert (await ask(port)).startswith("failed ")

    trio.run(main)


def test_who_waits_for_obedience_is_answered_by_it_and_not_held_up_by_a_stuck_worker(monkeypatch) -> None:
    monkeypatch.setattr("mosn_xds.process.supervise.OBEY_LIMIT_S", 0.5)

    async def main() -> None:
        port = PORTS.take()
        async with supervisor(2) as found:
            await serving(found, snapshot(listener(port)))
            for failed in (True, False) * 10:
                found.tell_all(feed.SetHealthFailed(failed), remember_as="health")
                await found.obeyed()
                assert (await ask(port)).startswith("failed ") is failed
            os.kill(found.slots[0].pid, signal.SIGSTOP)
            try:
                with trio.fail_after(10):
                    await found.obeyed()
            finally:
                os.kill(found.slots[0].pid, signal.SIGCONT)

    trio.run(main)


def test_worker_holds_none_of_grpc_and_protobuf() -> None:
    async def main() -> None:
        port = PORTS.take()
        async with supervisor(1) as found:
            await serving(found, snapshot(listener(port)))
            maps = mapped_files(found.slots[0].pid)
            assert "msgspec" in maps
            assert "cygrpc" not in maps
            assert "upb" not in maps

    trio.run(main)
