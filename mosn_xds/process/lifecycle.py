"""The states that the whole process goes through, and the statistics that tell them (`server.*`)."""

import os
from collections.abc import Callable, Iterable
from enum import IntEnum

from mosn_xds import __version__
from mosn_xds.base.stats import Histogram, StatGroup

NO_CERTIFICATE_DAYS = (1 << 32) - 1
"""Envoy's `days_until_first_cert_expiring` when nothing can expire."""


class ServerState(IntEnum):
    """envoy.admin.v3.ServerInfo.State: `server.state`, and the text of `/ready`."""

    LIVE = 0
    DRAINING = 1
    PRE_INITIALIZING = 2
    INITIALIZING = 3


class ServerStats(StatGroup):
    """``server.``. `measure` is called before each report and brings gauges up to date."""

    COUNTERS = (
        "agent_task_failures", "debug_assertion_failures", "dropped_stat_flushes", "dynamic_unknown_fields",
        "envoy_bug_failures", "static_unknown_fields", "worker_refusals", "worker_restarts", "wip_protos",
    )  # fmt: skip
    GAUGES = (
        "concurrency", "days_until_first_cert_expiring", "hot_restart_epoch", "hot_restart_generation", "live",
        "memory_allocated", "memory_heap_size", "memory_physical_size", "parent_connections", "state", "total_connections",
        "uptime", "version", "workers_serving",
    )  # fmt: skip
    HISTOGRAMS = ("initialization_time_ms",)
    __slots__ = (*COUNTERS, *GAUGES, *HISTOGRAMS, "measure")
    agent_task_failures: int
    debug_assertion_failures: int
    dropped_stat_flushes: int
    dynamic_unknown_fields: int
    envoy_bug_failures: int
    static_unknown_fields: int
    worker_refusals: int
    worker_restarts: int
    wip_protos: int
    concurrency: int
    days_until_first_cert_expiring: int
    hot_restart_epoch: int
    hot_restart_generation: int
    live: int
    memory_allocated: int
    memory_heap_size: int
    memory_physical_size: int
    parent_connections: int
    state: int
    total_connections: int
    uptime: int
    version: int
    workers_serving: int
    initialization_time_ms: Histogram

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.measure: Callable[[], None] | None = None
        self.version = version_number()
        self.hot_restart_generation = 1
        self.days_until_first_cert_expiring = NO_CERTIFICATE_DAYS

    def settle(self) -> None:
        if self.measure is not None:
            self.measure()


def version_number() -> int:
    """The package's version as one number, a byte for each part."""
    number = 0
    for part in __version__.split(".")[:3]:
        number = number << 8 | int(part)
    return number


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory that these processes have in RAM; pages that they share count for each."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm") as file:
                total += int(file.read().split()[1]) * page
        except (OSError, IndexError):  # it has just ended
            continue
    return total
