"""What the admin API asks of the agent. The agent implements it; tests may, too."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message

from mosn_xds.base.stats import HistogramChange
from mosn_xds.spec.cluster import Cluster, Endpoint, Locality
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.tls import Secret
from mosn_xds.xds.messages import type_label


class Figure(Protocol):
    """A counter or gauge."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...
    @property
    def used(self) -> bool: ...


class Distribution(Protocol):
    """A histogram."""

    @property
    def name(self) -> str: ...
    @property
    def cell(self) -> HistogramChange: ...
    @property
    def bounds(self) -> tuple[float, ...]: ...
    @property
    def used(self) -> bool: ...


class Totals(Protocol):
    """The agent's statistics."""

    def counters(self) -> Iterator[Figure]: ...
    def gauges(self) -> Iterator[Figure]: ...
    def histograms(self) -> Iterator[Distribution]: ...
    def text_readouts(self) -> Iterator[tuple[str, str]]: ...
    def reset_counters(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ResourceView:
    """One xDS resource as the agent knows it. Times are wall-clock seconds; `raw` is the good one's bytes."""

    source: str
    type_url: str
    name: str
    status: str
    version: str
    updated_at: float | None
    raw: bytes | None
    good_version: str = ""
    good_at: float | None = None
    warming: bool = False
    refusal_reason: str = ""
    refusal_version: str = ""
    refusal_at: float | None = None
    refusal_raw: bytes | None = None
    unread: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    history: tuple[tuple[str, float, str], ...] = ()
    """(version, time, reason or ``""``) of what came, oldest first."""


@dataclass(frozen=True, slots=True)
class StaticView:
    """One static resource of the bootstrap."""

    message: Message
    unread: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A cluster with the endpoints that serve now."""

    spec: Cluster
    localities: tuple[tuple[Locality, tuple[Endpoint, ...]], ...]


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker slot; `pid` None while it is missing."""

    slot: int
    pid: int | None
    generation: int
    restarts: int
    state: str


@dataclass(frozen=True, slots=True)
class RefusalView:
    """What a worker could not build after the agent had accepted it. `serving`: what was good before serves on."""

    type_url: str
    name: str
    reason: str
    serving: bool

    @property
    def type_name(self) -> str:
        return type_label(self.type_url)


@dataclass(frozen=True, slots=True)
class StreamView:
    """One xDS stream."""

    source: str
    target: str
    connected: bool
    last_error: str


class AgentView(Protocol):
    """See the module."""

    totals: Totals

    @property
    def state(self) -> str:
        """``LIVE``, ``DRAINING``, ``PRE_INITIALIZING`` or ``INITIALIZING``."""
        ...

    @property
    def started_at(self) -> float:
        """Wall-clock seconds."""
        ...

    @property
    def bootstrap(self) -> Message: ...

    @property
    def bootstrap_findings(self) -> tuple[Sequence[str], Sequence[str]]:
        """Fields of the bootstrap without effect and warnings about it, its static resources included, by path."""
        ...

    @property
    def command_line(self) -> Mapping[str, Any]:
        """The options by their proto field names (`envoy.admin.v3.CommandLineOptions`), defaults left out."""
        ...

    def static_resources(self, type_url: str) -> Iterable[StaticView]: ...

    def resources(self, type_url: str | None = None) -> Iterable[ResourceView]: ...

    def draining_listeners(self) -> Iterable[tuple[str, bytes, float]]:
        """Listeners that are gone but still drain: name, last bytes, since when."""
        ...

    def clusters(self) -> Iterable[ClusterView]: ...

    def listeners(self) -> Iterable[Listener]: ...

    def secrets(self) -> Iterable[Secret]:
        """Those that workers have."""
        ...

    @property
    def now(self) -> float:
        """Wall-clock seconds."""
        ...

    def host_figures(self, cluster: str, address: str) -> Mapping[str, int]: ...

    def workers(self) -> Iterable[WorkerView]: ...

    def worker_refusals(self) -> Iterable[RefusalView]: ...

    def streams(self) -> Iterable[StreamView]: ...

    def log_levels(self) -> Mapping[str, str]: ...

    def set_log_level(self, logger: str | None, level: str) -> None:
        """Raises ValueError for a logger or level that does not exist; None sets all."""
        ...

    def drain_listeners(self, *, inbound_only: bool, graceful: bool, skip_exit: bool) -> None: ...

    def set_health_failed(self, failed: bool) -> None: ...

    def reopen_logs(self) -> None: ...

    async def obeyed(self) -> None:
        """Until the workers have done what they were told, so that an answer means done; some seconds at most."""
        ...

    def quit(self) -> None: ...
