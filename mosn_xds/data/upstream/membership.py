"""Which hosts a cluster has: endpoint updates merged into `Host` objects that keep their identity by address.

An update costs what changed: a locality whose uid is known keeps its hosts without being decoded. Endpoints of several
localities with one address are one host, where it was named first. The module knows neither balancers nor pools.
"""

from typing import NamedTuple

import msgspec

from mosn_xds.data.balance.balancer import LocalityHosts
from mosn_xds.data.upstream.host import Host
from mosn_xds.spec.cluster import Endpoint, Endpoints

_decode_endpoints = msgspec.msgpack.Decoder(tuple[Endpoint, ...]).decode


class Change(NamedTuple):
    """What an update did. `changed` is also true when only weights, health or localities are others than before."""

    changed: bool
    added: list[Host]
    removed: list[Host]


class Membership:
    """The hosts of one cluster, as of the last update."""

    __slots__ = ("_by_text", "_keys", "localities")

    def __init__(self) -> None:
        self._by_text: dict[str, Host] = {}
        self._keys: list[tuple[bytes, int, int | None]] = []
        self.localities: list[LocalityHosts[Host]] = []

    @property
    def hosts(self) -> list[Host]:
        return list(self._by_text.values())

    def __len__(self) -> int:
        return len(self._by_text)

    def update(self, endpoints: Endpoints | None, now_s: float) -> Change:
        """Take over `endpoints` (None: there are none any more). Raises msgspec.MsgspecError for what cannot be decoded,
        with nothing changed."""
        specs = endpoints.localities if endpoints is not None else ()
        keys = [(spec.uid, spec.priority, spec.weight) for spec in specs]
        if keys == self._keys:
            return Change(False, [], [])
        known = dict(zip((key[0] for key in self._keys), self.localities, strict=True))
        decoded = [None if spec.uid in known else _decode_endpoints(spec.endpoints) for spec in specs]
        before = self._by_text
        after: dict[str, Host] = {}
        added: list[Host] = []
        localities = []
        for spec, endpoint_specs in zip(specs, decoded, strict=True):
            if endpoint_specs is None:
                hosts = [host for host in known[spec.uid].hosts if host.text not in after]
                after.update((host.text, host) for host in hosts)
            else:
                hosts = []
                for endpoint in endpoint_specs:
                    text = str(endpoint.address)
                    if text in after:
                        continue
                    host = before.get(text)
                    if host is None:
                        host = Host(endpoint, now_s)
                        added.append(host)
                    else:
                        if host.transport_metadata != endpoint.transport_metadata:
                            host.drain_pools()  # new connections may have to be secured otherwise
                        host.update(endpoint)
                    after[text] = host
                    hosts.append(host)
            localities.append(LocalityHosts(hosts, spec.priority, spec.weight))
        removed = [host for text, host in before.items() if text not in after]
        self._by_text = after
        self._keys = keys
        self.localities = localities
        return Change(True, added, removed)

    def __repr__(self) -> str:
        return f"<Membership of {len(self._by_text)} in {len(self.localities)} localities>"
