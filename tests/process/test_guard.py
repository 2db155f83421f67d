"""The agent inside one event loop: what happens when a part of it fails."""

import trio

from mosn_xds.base.log import Level, LogControl, LogSettings
from mosn_xds.base.stats import StatRegistry
from mosn_xds.process.agent import AgentProcess
from mosn_xds.process.hosts import HostTotals
from mosn_xds.process.lifecycle import ServerState
from mosn_xds.process.options import Options
from mosn_xds.process.spawner_link import SpawnerLink
from mosn_xds.process.supervise import Supervisor
from mosn_xds.process.totals import StatTotals
from mosn_xds.spec.feed import Configure
from mosn_xds.spec.snapshot import Snapshot
from tests.process.agent_main import FixedControl
from tests.process.mesh import ask, listener, snapshot, until
from tests.support.ports import PortAllocator

PORTS = PortAllocator()


class FailingControl(FixedControl):
    """Fails once after it has published."""

    def __init__(self, supervisor: Supervisor, found: Snapshot) -> None:
        super().__init__(supervisor, found)
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        if self.runs == 1:
            raise RuntimeError("a bug")
        await super().run()


def make_agent(engine: str = "tests.process.echo_engine:Engine") -> AgentProcess:
    settings = LogSettings(level=Level.OFF)
    spawner = SpawnerLink(engine, settings)
    spawner.start()
    stats = StatRegistry()
    supervisor = Supervisor(Configure(0, 1), spawner, StatTotals(stats), HostTotals())
    return AgentProcess(Options(), LogControl(settings), spawner, supervisor, stats)


def test_part_that_fails_is_counted_and_started_again(monkeypatch) -> None:
    monkeypatch.setattr("mosn_xds.process.agent.TASK_RESTART_S", 0.05)

    async def main() -> None:
        port = PORTS.take()
        agent = make_agent()
        control = FailingControl(agent.supervisor, snapshot(listener(port)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.run, control)
            with trio.fail_after(30):
                await agent.live.wait()
            assert control.runs == 2
            assert agent.totals.value("server.agent_task_failures") == 1
            assert await ask(port)
            agent.supervisor.kill()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_states_are_told_as_envoy_tells_them() -> None:
    async def main() -> None:
        port = PORTS.take()
        agent = make_agent()
        control = FixedControl(agent.supervisor, snapshot(listener(port)))
        assert agent.state is ServerState.PRE_INITIALIZING
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.run, control)
            with trio.fail_after(30):
                await agent.live.wait()
            value = agent.totals.value
            assert (value("server.state"), value("server.live"), value("server.concurrency")) == (0, 1, 1)
            assert value("listener_manager.workers_started") == 1
            agent.set_health_failed(True)
            assert agent.state is ServerState.DRAINING
            assert value("server.live") == 0
            await until_answer(port, "failed ")
            agent.set_health_failed(False)
            assert agent.state is ServerState.LIVE
            agent.shut_down()
            assert agent.state is ServerState.DRAINING

    async def until_answer(port: int, prefix: str) -> None:
        with trio.fail_after(30):
            while not (await ask(port)).startswith(prefix):
                pass

    trio.run(main)


def test_data_half_that_cannot_be_loaded_ends_the_process() -> None:
    async def main() -> None:
        agent = make_agent("tests.process.no_such_module:Engine")
        with trio.fail_after(30):
            assert await agent.run(FixedControl(agent.supervisor, snapshot())) == 1

    trio.run(main)


def test_graceful_drain_stops_accepting_when_the_drain_time_is_over() -> None:
    async def main() -> None:
        port = PORTS.take()
        settings = LogSettings(level=Level.OFF)
        agent = make_agent()
        agent = AgentProcess(
            Options(drain_time_s=0.5), LogControl(settings), agent.spawner, agent.supervisor, StatRegistry()
        )
        control = FixedControl(agent.supervisor, snapshot(listener(port)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.run, control)
            with trio.fail_after(30):
                await agent.live.wait()
            agent.drain_listeners(graceful=True, skip_exit=True)
            await trio.sleep(0.8)
            assert (await trio.open_tcp_stream("127.0.0.1", port)) is not None
            agent.drain_listeners(graceful=True)
            await until(lambda: not agent.supervisor.sockets.bound())
            agent.supervisor.kill()
            nursery.cancel_scope.cancel()

    trio.run(main)
