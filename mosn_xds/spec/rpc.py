"""RPC proxies: protocols, routes over service, method and properties, and what serves them (Envoy's generic_proxy).

Actions, retries, weights and hash policies are those of HTTP routes (`mosn_xds.spec.route`): an RPC request is a request.
Only the way to a route differs: a matcher tree (xds.type.matcher.v3.Matcher) instead of a list of path matches.
"""

from enum import IntEnum

from mosn_xds.spec.access_log import AccessLog
from mosn_xds.spec.common import HeaderMatch, Spec, StringMatch
from mosn_xds.spec.filters import HttpFilter
from mosn_xds.spec.route import Route


class ProtocolUse(Spec, frozen=True):
    """A protocol and what it is configured with: entry point `entry` of the group ``mosn_xds.protocols``, `options` its
    JSON, empty for the defaults. Judged before Pilot gets its ACK. `name` is what the configuration calls it."""

    name: str
    entry: str
    options: bytes = b""


class RpcInputKind(IntEnum):
    """What a matcher looks at."""

    SERVICE = 0
    HOST = 1
    PATH = 2
    METHOD = 3
    PROPERTY = 4


class RpcInput(Spec, frozen=True):
    """`name` is a property's, found in its own case first, then in any."""

    kind: RpcInputKind
    name: str = ""


class ValueTest(Spec, frozen=True, tag="value"):
    """Holds for an input that is there and matches."""

    input: RpcInput
    string: StringMatch


class PropertyTest(Spec, frozen=True, tag="property"):
    """A property as a header matcher sees it: its name in its own case first, then in any."""

    header: HeaderMatch


class AllOf(Spec, frozen=True, tag="all"):
    """Holds if each one does."""

    predicates: tuple["RpcPredicate", ...]


class AnyOf(Spec, frozen=True, tag="any"):
    """Holds if one does; never, if there is none."""

    predicates: tuple["RpcPredicate", ...]


class Not(Spec, frozen=True, tag="not"):
    predicate: "RpcPredicate"


RpcPredicate = ValueTest | PropertyTest | AllOf | AnyOf | Not


class RpcOnMatch(Spec, frozen=True):
    """Where a match leads: to a `route`, or to a further `matcher`."""

    route: Route | None = None
    matcher: "RpcMatcher | None" = None


class RpcMatchEntry(Spec, frozen=True):
    predicate: RpcPredicate
    on_match: RpcOnMatch


class RpcMatchList(Spec, frozen=True, tag="list"):
    """The first entry that leads to a route wins."""

    entries: tuple[RpcMatchEntry, ...]


class RpcMatchMap(Spec, frozen=True, tag="map"):
    """An input's value looked up: as a whole, or with `prefixes` the longest key that it begins with."""

    input: RpcInput
    entries: tuple[tuple[str, RpcOnMatch], ...]
    prefixes: bool = False


class RpcMatcher(Spec, frozen=True):
    """xds.type.matcher.v3.Matcher. What matches nothing in `tree` goes to `no_match`."""

    tree: RpcMatchList | RpcMatchMap | None = None
    no_match: RpcOnMatch | None = None


class RpcVirtualHost(Spec, frozen=True):
    """Routes for a set of hosts; domains as of a `mosn_xds.spec.route.VirtualHost`, but in their own case."""

    name: str
    domains: tuple[str, ...]
    matcher: RpcMatcher = RpcMatcher()


class RpcRouteTable(Spec, frozen=True):
    """envoy.extensions.filters.network.generic_proxy.v3.RouteConfiguration."""

    name: str
    virtual_hosts: tuple[RpcVirtualHost, ...] = ()
    clusters: tuple[str, ...] = ()
    """Every cluster named by a route, a weight or a mirror."""


class RpcProxy(Spec, frozen=True, tag="rpc"):
    """envoy.extensions.filters.network.generic_proxy.v3.GenericProxy, and what dubbo_proxy and thrift_proxy become.

    Exactly one of `rds`, `routes` is set. Several `protocols` are looked for in this order in a connection's first bytes.
    `bind_upstream`: each downstream connection has an upstream connection of its own.
    """

    stat_prefix: str
    """With its root and its dot: ``generic_proxy.NAME.``, ``dubbo.NAME.``, ``thrift.NAME.``."""
    protocols: tuple[ProtocolUse, ...]
    routes: RpcRouteTable | None = None
    rds: str = ""
    filters: tuple[HttpFilter, ...] = ()
    access_logs: tuple[AccessLog, ...] = ()
    bind_upstream: bool = False
    idle_timeout_s: float | None = None
    """None: no idle time-out, as Envoy's has none."""
    max_requests_per_connection: int | None = None
    max_connection_duration_s: float | None = None
    detection_timeout_s: float = 15.0
    """With several protocols: from a client's first byte to the last that it takes to tell which one it speaks."""
