"""What all clusters of a worker share: one object, so that their constructors ask for one thing."""

from collections.abc import Hashable, Iterator
from itertools import count
from typing import Final, TypeVar, cast

from mosn_xds.base.chance import Random
from mosn_xds.base.limits import LimitProvider
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.codec.http2 import EngineFactory, ngh2_engine
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.tls.store import TlsStore
from mosn_xds.data.upstream.balancer_builds import BalancerBuilds
from mosn_xds.data.upstream.host_report import HostReport

T = TypeVar("T", bound=Hashable)

_MAX_SHARED_OPTIONS: Final = 200


class UpstreamParts:
    """What all clusters of a worker share."""

    __slots__ = (
        "_options",
        "builds",
        "connection_ids",
        "http2_engine",
        "limits",
        "random",
        "reactor",
        "report",
        "stats",
        "tls",
    )

    def __init__(
        self,
        reactor: Reactor,
        stats: StatRegistry,
        limits: LimitProvider,
        random: Random,
        http2_engine: EngineFactory = ngh2_engine,
        tls: TlsStore | None = None,
    ) -> None:
        self.reactor = reactor
        self.tls = tls or TlsStore(reactor)
        self.stats = stats
        self.limits = limits
        self.random = random
        self.http2_engine = http2_engine
        self.report = HostReport()
        self.connection_ids: Iterator[int] = count(1)
        self.builds: BalancerBuilds | None = None
        """Where balancers that take long are built; None: at once."""
        self._options: dict[Hashable, Hashable] = {}

    def same(self, options: T) -> T:
        """The one object that stands for all equal ones: the clusters of a mesh have few kinds of options."""
        if len(self._options) >= _MAX_SHARED_OPTIONS:
            self._options.clear()  # what is in use stays with its users; what no cluster has any more goes
        return cast(T, self._options.setdefault(options, options))
