"""The agent: everything but the data path, in one trio program.

It owns the control half (where Snapshots come from), the supervisor with its workers (where they go), the totals, the
admin API, and the process' life: signals, states, the end. `AgentProcess` is what the admin API looks at and acts on.

The life of a process. PRE_INITIALIZING and INITIALIZING as the control half says; LIVE when its first configuration serves
in every worker, and not while a worker lacks something that Pilot has its ACK for. SIGTERM or SIGINT: DRAINING. Workers go
on accepting, for the application beside us may still need its way out, but end each connection after its response; the
process exits 0 when no stream has been active for a second, or after `Options.shutdown_limit_s`. A second signal ends
everything at once. SIGUSR1 opens logs again; SIGHUP is eaten, as Envoy does.

A failing part of the agent (a bug) is logged, counted and started again: the workers serve what they have. The supervisor is
the exception, without it nothing here makes sense.
"""

import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Protocol

import trio

from mosn_xds.base.clock import Clock, SystemClock
from mosn_xds.base.log import Level, LogControl
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.stats import ListenerManagerStats
from mosn_xds.process.certificate_dates import CertificateDates
from mosn_xds.process.hosts import HostTotals
from mosn_xds.process.lifecycle import NO_CERTIFICATE_DAYS, ServerState, ServerStats, resident_bytes
from mosn_xds.process.options import Mode, Options
from mosn_xds.process.spawner_link import SpawnerFailed, SpawnerLink, reap_orphans
from mosn_xds.process.supervise import Supervisor, WorkerState
from mosn_xds.process.totals import StatTotals
from mosn_xds.spec import feed
from mosn_xds.spec.snapshot import EMPTY

TASK_RESTART_S = 1.0
IDLE_BEFORE_EXIT_S = 1.0

_log = logging.getLogger("mosn_xds.main")


class ControlHalf(Protocol):
    """Where configuration comes from; see `mosn_xds.process.configuration`."""

    @property
    def state(self) -> ServerState:
        """How far the first configuration is; LIVE once all of it has been published."""
        ...

    @property
    def required_listeners(self) -> Collection[str]:
        """Which listeners must be bound before the process is ready."""
        ...

    async def wait_live(self) -> None:
        """Until `state` is LIVE."""
        ...

    async def run(self) -> None:
        """Publish Snapshots to the supervisor, until cancelled."""
        ...


Service = Callable[["AgentProcess"], Awaitable[None]]
"""Something that runs beside the rest for as long as the process does, like the admin API."""


class AgentProcess:
    """See the module."""

    def __init__(
        self,
        options: Options,
        log: LogControl,
        spawner: SpawnerLink,
        supervisor: Supervisor,
        stats: StatRegistry,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.options = options
        self.log = log
        self.spawner = spawner
        self.supervisor = supervisor
        self.totals: StatTotals = supervisor.totals
        self.hosts: HostTotals = supervisor.hosts
        self.stats = stats
        self.clock = clock or SystemClock()
        self.started_wall_s = self.clock.wall()
        self._started_s = self.clock.monotonic()
        self._server_stats = stats.group(ServerStats, "server.")
        self._listener_stats = stats.group(ListenerManagerStats, "listener_manager.")
        self._server_stats.concurrency = len(supervisor.slots)
        self._server_stats.measure = self._measure
        self._certificates = CertificateDates()
        self._control: ControlHalf | None = None
        self._nursery: trio.Nursery | None = None
        self._health_failed = False
        self._draining = False
        self.live = trio.Event()
        """All workers serve the first configuration."""
        self._ended = trio.Event()
        self._exit_code = 0

    def __repr__(self) -> str:
        return f"<AgentProcess pid {os.getpid()} {self.state.name} {self.supervisor!r}>"

    # --- what the admin API shows -----------------------------------------------------------------------------------

    @property
    def state(self) -> ServerState:
        """`/ready` and `server.state`."""
        if self._draining:
            return ServerState.DRAINING
        if not self.live.is_set():
            control = self._control.state if self._control is not None else ServerState.PRE_INITIALIZING
            return ServerState.INITIALIZING if control is ServerState.LIVE else control  # workers have yet to follow
        if self.supervisor.attainable.holes:
            return ServerState.INITIALIZING  # Pilot has its ACK for what no worker serves: who asks us must hear it
        return ServerState.DRAINING if self._health_failed else ServerState.LIVE

    @property
    def uptime_s(self) -> float:
        return self.clock.monotonic() - self._started_s

    # --- what the admin API does ------------------------------------------------------------------------------------

    def drain_listeners(self, *, inbound_only: bool = False, graceful: bool = False, skip_exit: bool = False) -> None:
        """`/drain_listeners`: stop accepting and drain. `graceful`: drain first, and stop accepting when the drain time is
        over; not even then with `skip_exit`, which drains gracefully by itself."""
        graceful = graceful or skip_exit
        if not graceful:
            self.supervisor.stop_listeners(inbound_only=inbound_only)
            return
        self.supervisor.tell_all(feed.DrainListeners(inbound_only, graceful), remember_as=f"drain {inbound_only}")
        if not skip_exit and self._nursery is not None:
            self._nursery.start_soon(self._stop_after_drain, inbound_only)

    async def _stop_after_drain(self, inbound_only: bool) -> None:
        await trio.sleep(self.options.drain_time_s)
        self.supervisor.stop_listeners(inbound_only=inbound_only)

    def set_health_failed(self, failed: bool) -> None:
        """`/healthcheck/fail` and `/healthcheck/ok`."""
        self._health_failed = failed
        self.supervisor.tell_all(feed.SetHealthFailed(failed), remember_as="health")

    def set_log_level(self, level: Level, component: str = "") -> bool:
        """`/logging`; without a component, all of them. False for a component that does not exist."""
        if component:
            if not self.log.set_component(component, level):
                return False
        else:
            self.log.set_all(level)
        self.supervisor.tell_all(feed.SetLogLevel(component, level.text), remember_as=f"log {component}")
        return True

    def reopen_logs(self) -> None:
        """`/reopen_logs`, SIGUSR1: the application's log and the workers' access logs."""
        try:
            self.log.reopen()
        except OSError as error:
            _log.error("the log cannot be opened again: %s", error)
        self.supervisor.tell_all(feed.ReopenLogs())

    def shut_down(self) -> None:
        """SIGTERM, `/quitquitquit`: drain and exit 0. Again: exit at once."""
        if self._draining:
            _log.warning("shutting down at once")
            self.supervisor.kill()
            self._end(1)
            return
        self._draining = True
        _log.warning("shutting down, for %g s at most", self.options.shutdown_limit_s)
        self.supervisor.begin_shutdown(self.options.shutdown_limit_s, IDLE_BEFORE_EXIT_S)

    # --- life -------------------------------------------------------------------------------------------------------

    async def run(self, control: ControlHalf, *services: Service) -> int:
        """Serve until told to stop; returns the exit code."""
        self._control = control
        with trio.open_signal_receiver(
            signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGCHLD
        ) as signals:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._obey, signals)
                nursery.start_soon(self._keep_spawner)
                nursery.start_soon(self._supervise)
                nursery.start_soon(self._watch_initialization, control)
                nursery.start_soon(self._guard, "control half", control.run)
                for service in services:
                    nursery.start_soon(self._guard, repr(service), lambda service=service: service(self))
                await self._ended.wait()
                nursery.cancel_scope.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # we are on our way; one that comes now must not change the exit code
        _log.info("exiting with %d", self._exit_code)
        return self._exit_code

    def _end(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._ended.set()

    async def _keep_spawner(self) -> None:
        try:
            await self.spawner.run()
        except SpawnerFailed:
            _log.critical("no worker can be started: exiting")
            self._end(1)

    async def _supervise(self) -> None:
        await self.supervisor.run()
        self._end(self._exit_code)

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGCHLD:
                if os.getpid() == 1:
                    reap_orphans(self.spawner)
            elif number == signal.SIGUSR1:
                _log.info("caught SIGUSR1: opening logs again")
                self.reopen_logs()
            elif number == signal.SIGHUP:
                _log.warning("caught and eating SIGHUP: there is no hot restart")
            else:
                _log.warning("caught %s", signal.Signals(number).name)
                self.shut_down()

    async def _guard(self, name: str, function: Callable[[], Awaitable[None]]) -> None:
        """The border for the agent's tasks: one that fails is started again."""
        while True:
            try:
                await function()
                return
            except Exception:
                self._server_stats.agent_task_failures += 1
                _log.exception("%s fails and is started again in %g s", name, TASK_RESTART_S)
            await trio.sleep(TASK_RESTART_S)

    async def _watch_initialization(self, control: ControlHalf) -> None:
        """LIVE once all workers serve the first whole configuration."""
        await control.wait_live()
        if not self.supervisor.published.generation:
            self.supervisor.publish(EMPTY)  # nothing is configured, and that is served
        supervisor = self.supervisor
        while not supervisor.is_settled() or any(
            name in supervisor.attainable.unbound for name in control.required_listeners
        ):
            await self.supervisor.wait_for_change()
        self.live.set()
        self._server_stats.initialization_time_ms.record(self.uptime_s * 1000)
        _log.info("all %d workers serve: initialized in %.0f ms", len(self.supervisor.slots), self.uptime_s * 1000)
        if self.options.mode is Mode.INIT_ONLY:
            self._exit_code = 1 if supervisor.attainable.holes else 0
            supervisor.begin_shutdown(0.0, 0.0)

    def _measure(self) -> None:
        stats = self._server_stats
        supervisor = self.supervisor
        stats.state = int(self.state)
        stats.live = int(self.state is ServerState.LIVE)
        stats.uptime = int(self.uptime_s)
        stats.workers_serving = sum(slot.state is WorkerState.SERVING for slot in supervisor.slots)
        stats.worker_restarts = sum(max(0, slot.starts - 1) for slot in supervisor.slots)
        stats.worker_refusals = supervisor.refusals_total
        days = self._certificates.first_days(supervisor.published, self.clock.wall())
        stats.days_until_first_cert_expiring = NO_CERTIFICATE_DAYS if days is None else days
        draining = {name: count for slot in supervisor.slots for name, count in slot.draining.items()}
        self._listener_stats.total_listeners_draining = len(draining)
        self._listener_stats.listener_stopped = len(supervisor.attainable.stopped_listeners)
        self._listener_stats.workers_started = int(self.live.is_set())
        stats.total_connections = self.totals.sum_of("listener.", "downstream_cx_active")
        pids = [os.getpid(), *(slot.pid for slot in supervisor.slots if slot.pid)]
        stats.memory_physical_size = stats.memory_allocated = stats.memory_heap_size = resident_bytes(pids)
