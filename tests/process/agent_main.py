"""An agent whose control half serves one echo listener: ``python -m tests.process.agent_main PORT CONCURRENCY DRAIN_S``."""

import sys
from pathlib import Path

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
from tests.process.mesh import listener, snapshot


class FixedControl:
    """Publishes one Snapshot."""

    def __init__(self, supervisor: Supervisor, found: Snapshot) -> None:
        self._supervisor = supervisor
        self._snapshot = found
        self._live = trio.Event()

    @property
    def state(self) -> ServerState:
        return ServerState.LIVE if self._live.is_set() else ServerState.PRE_INITIALIZING

    @property
    def required_listeners(self) -> list[str]:
        return ["echo"]

    async def wait_live(self) -> None:
        await self._live.wait()

    async def run(self) -> None:
        self._supervisor.publish(self._snapshot)
        self._live.set()
        await trio.sleep_forever()


async def say_when_live(agent: AgentProcess) -> None:
    """What the test waits for: the pids, once all workers serve."""
    await agent.live.wait()
    print("live", agent.spawner.pid, *(slot.pid for slot in agent.supervisor.slots), flush=True)
    await trio.sleep_forever()


def main(port: int, concurrency: int, drain_s: float, log_path: str) -> int:
    settings = LogSettings(level=Level.INFO, path=log_path)
    log = LogControl(settings)
    spawner = SpawnerLink("tests.process.echo_engine:Engine", settings)
    spawner.start()
    stats = StatRegistry()
    supervisor = Supervisor(Configure(0, concurrency), spawner, StatTotals(stats), HostTotals())
    agent = AgentProcess(Options(drain_time_s=drain_s), log, spawner, supervisor, stats)
    return trio.run(agent.run, FixedControl(supervisor, snapshot(listener(port))), say_when_live)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), str(Path(sys.argv[4]))))
