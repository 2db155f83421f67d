"""The clusters of a worker by name, and the endpoints they use.

Everything takes effect at once and in any order: endpoints may come before the cluster that uses them, several EDS
clusters may use the same endpoints. What is put again unchanged costs one comparison and disturbs nothing.
"""

from collections.abc import Callable, Iterator

from mosn_xds.base.chance import Random
from mosn_xds.base.limits import LimitProvider
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.codec.http2 import EngineFactory, ngh2_engine
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.tls.store import TlsStore
from mosn_xds.data.upstream.balancer_builds import BalancerBuilds
from mosn_xds.data.upstream.cluster import Cluster
from mosn_xds.data.upstream.parts import UpstreamParts
from mosn_xds.spec.cluster import Cluster as ClusterSpec
from mosn_xds.spec.cluster import Discovery, Endpoints
from mosn_xds.spec.feed import HostStat


class ClusterManager:
    """See the module."""

    def __init__(
        self,
        reactor: Reactor,
        stats: StatRegistry,
        limits: LimitProvider,
        random: Random,
        tls: TlsStore | None = None,
        http2_engine: EngineFactory = ngh2_engine,
    ) -> None:
        self.tls = tls or TlsStore(reactor)
        self._parts = UpstreamParts(reactor, stats, limits, random, http2_engine, tls=self.tls)
        self._clusters: dict[str, Cluster] = {}
        self._endpoints: dict[str, Endpoints] = {}
        self._users: dict[str, set[str]] = {}
        """Clusters by the name of the endpoints they use."""
        self.get = self._clusters.get
        """The cluster of a name, or None: a dict's own method, as it is called for every attempt."""

    def build_in_steps(self) -> Callable[[], Iterator[None]]:
        """From now on balancers that take long are made by what is returned: in steps, as often as it is called."""
        builds = self._parts.builds = BalancerBuilds()
        return builds.run

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self._clusters.values())

    def __len__(self) -> int:
        return len(self._clusters)

    def put_cluster(self, spec: ClusterSpec) -> None:
        """Add a cluster, or replace the one of that name: hosts keep their figures, pools drain."""
        previous = self._clusters.get(spec.name)
        if previous is not None and previous.spec == spec:
            return
        cluster = Cluster(spec, self._parts, previous)
        source = endpoints_name(spec)
        if previous is not None:
            old_source = endpoints_name(previous.spec)
            if old_source != source:
                self._drop_user(old_source, spec.name)
            if previous.spec.discovery is Discovery.ORIGINAL_DST or spec.discovery is Discovery.ORIGINAL_DST:
                previous.drain()
        self._users.setdefault(source, set()).add(spec.name)
        cluster.set_endpoints(self._endpoints.get(source))
        self._clusters[spec.name] = cluster

    def put_endpoints(self, endpoints: Endpoints) -> None:
        """These are the endpoints of that name from now on. Raises msgspec.MsgspecError for what cannot be decoded."""
        for name in self._users.get(endpoints.name, ()):
            self._clusters[name].set_endpoints(endpoints)
        self._endpoints[endpoints.name] = endpoints

    def drop_cluster(self, name: str) -> None:
        """Requests that look for it find none; those under way go on."""
        cluster = self._clusters.pop(name, None)
        if cluster is not None:
            self._drop_user(endpoints_name(cluster.spec), name)
            cluster.drain()

    def drop_endpoints(self, name: str) -> None:
        """Clusters that use them have no hosts any more."""
        if self._endpoints.pop(name, None) is not None:
            for user in self._users.get(name, ()):
                self._clusters[user].set_endpoints(None)

    def host_stats(self) -> list[HostStat]:
        """Absolute figures of the hosts whose figures changed since the last call; without counters: it is gone."""
        return self._parts.report.take()

    def close(self) -> None:
        """End every pooled connection now; streams are reset."""
        for cluster in self._clusters.values():
            cluster.close()

    def _drop_user(self, source: str, name: str) -> None:
        users = self._users.get(source)
        if users is not None:
            users.discard(name)
            if not users:
                del self._users[source]

    def __repr__(self) -> str:
        return f"<ClusterManager {len(self._clusters)} clusters>"


def endpoints_name(spec: ClusterSpec) -> str:
    """The name of the `Endpoints` that the cluster uses."""
    return spec.eds_name if spec.discovery is Discovery.EDS and spec.eds_name else spec.name
