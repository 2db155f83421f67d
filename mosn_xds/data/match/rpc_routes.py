"""Route tables of RPC proxies: virtual hosts, and in each a matcher tree compiled to closures.

A tree is walked as Envoy walks it (matching_api.html): the entries of a list in order, a map by its key, prefixes from the
longest to the shortest; what matches but leads nowhere is as if it had not matched; in the end there is `on_no_match`. The
leaves are `mosn_xds.data.match.routes.Route`, with the plan that the layers above compile, so that whoever serves HTTP by a
`RouteTable` serves RPCs by an `RpcTable`.

An input that is not there matches nothing, hence a negation of it everything. Properties are asked for by the head's `get`,
which minds their case first and ignores it then.
"""

from collections.abc import Callable
from typing import ClassVar, Protocol

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.match.domains import DomainTable
from mosn_xds.data.match.head import PeerView, RequestView
from mosn_xds.data.match.headers import compile_header
from mosn_xds.data.match.routes import Planner, Route
from mosn_xds.data.match.strings import compile_string
from mosn_xds.spec import route as route_spec
from mosn_xds.spec import rpc as spec
from mosn_xds.spec.rpc import RpcInputKind


class PropertyView(RequestView, Protocol):
    """A request's head that knows its properties by name."""

    def get(self, name: bytes) -> bytes | None: ...


_Input = Callable[[PropertyView], bytes | None]
_Predicate = Callable[[PropertyView], bool]
_Walk = Callable[[PropertyView], Route | None]
_Leaf = Callable[[route_spec.Route], Route]


class RpcHost:
    """One compiled virtual host. Routes that `previous` has just so are taken over: compiling them is what takes time."""

    __slots__ = ("_walk", "name", "origin", "routes", "spec")

    require_tls: ClassVar[route_spec.TlsRequirement] = route_spec.TlsRequirement.NONE

    def __init__(
        self,
        host: spec.RpcVirtualHost,
        table: route_spec.RouteTable,
        planner: Planner,
        previous: "RpcHost | None" = None,
    ) -> None:
        self.name = host.name
        self.origin = host
        self.spec = route_spec.VirtualHost(host.name, host.domains)
        """As the planner sees it."""
        self.routes: list[Route] = []
        """In the order of the configuration."""

        known = {}
        if previous is not None and previous.spec == self.spec:
            known = {route.spec: route for route in previous.routes}

        def leaf(route: route_spec.Route) -> Route:
            compiled = known.get(route)
            if compiled is None:
                compiled = Route(route, planner(table, self.spec, route), dict(route.per_filter))
            self.routes.append(compiled)
            return compiled

        self._walk = _compile_matcher(host.matcher, leaf)

    def __repr__(self) -> str:
        return f"<RpcHost {self.name} {len(self.routes)} routes>"

    def match(self, head: PropertyView, stable_random: int, peer: PeerView | None = None) -> Route | None:
        """The route that takes the request. Neither chance nor the peer has a say."""
        del stable_random, peer
        return self._walk(head)


class RpcTable:
    """envoy.extensions.filters.network.generic_proxy.v3.RouteConfiguration, compiled."""

    __slots__ = ("_domains", "name", "spec", "virtual_hosts")

    def __init__(self, frame: route_spec.RouteTable, domains: DomainTable, hosts: list[RpcHost]) -> None:
        self.name = frame.name
        self.spec = frame
        """As the planner sees it."""
        self.virtual_hosts = hosts
        """In the order of the configuration."""
        self._domains = domains

    @classmethod
    def build(cls, table: spec.RpcRouteTable, planner: Planner, previous: "RpcTable | None" = None) -> "RpcTable":
        """Compile `table`; what `previous` has just so is taken over. Raises ConfigError with the field path of what cannot
        be used."""
        frame = route_spec.RouteTable(table.name)
        known = {host.name: host for host in previous.virtual_hosts} if previous is not None else {}
        hosts = []
        for position, host in enumerate(table.virtual_hosts):
            had = known.get(host.name)
            if had is not None and had.origin == host:
                hosts.append(had)
                continue
            try:
                hosts.append(RpcHost(host, frame, planner, had))
            except ConfigError as error:
                raise error.under(f"virtual_hosts[{position}]") from None
        return cls(frame, DomainTable(tuple([host.domains for host in table.virtual_hosts]), any_case=False), hosts)

    def __repr__(self) -> str:
        return f"<RpcTable {self.name} {len(self.virtual_hosts)} virtual hosts>"

    def virtual_host(self, head: RequestView) -> RpcHost | None:
        """Whose the request is."""
        position = self._domains.find(head.authority or b"")
        return self.virtual_hosts[position] if position >= 0 else None


def _compile_matcher(matcher: spec.RpcMatcher, leaf: _Leaf) -> _Walk:
    tree = matcher.tree
    if isinstance(tree, spec.RpcMatchList):
        found = _compile_list(tree, leaf)
    elif isinstance(tree, spec.RpcMatchMap):
        found = _compile_prefixes(tree, leaf) if tree.prefixes else _compile_exact(tree, leaf)
    else:
        found = _nowhere
    otherwise = _compile_on_match(matcher.no_match, leaf) if matcher.no_match is not None else _nowhere
    if otherwise is _nowhere:
        return found
    if found is _nowhere:
        return otherwise

    def walk(head: PropertyView) -> Route | None:
        route = found(head)
        return route if route is not None else otherwise(head)

    return walk


def _nowhere(head: PropertyView) -> Route | None:
    del head
    return None


def _compile_on_match(on_match: spec.RpcOnMatch, leaf: _Leaf) -> _Walk:
    if on_match.matcher is not None:
        return _compile_matcher(on_match.matcher, leaf)
    if on_match.route is None:
        return _nowhere
    route = leaf(on_match.route)
    return lambda head: route


def _compile_list(tree: spec.RpcMatchList, leaf: _Leaf) -> _Walk:
    entries = [(compile_predicate(entry.predicate), _compile_on_match(entry.on_match, leaf)) for entry in tree.entries]

    def walk(head: PropertyView) -> Route | None:
        for holds, onward in entries:
            if holds(head) and (route := onward(head)) is not None:
                return route
        return None

    return walk


def _compile_exact(tree: spec.RpcMatchMap, leaf: _Leaf) -> _Walk:
    read = _compile_input(tree.input)
    ways = {key.encode(): _compile_on_match(on_match, leaf) for key, on_match in tree.entries}

    def walk(head: PropertyView) -> Route | None:
        value = read(head)
        onward = ways.get(value) if value is not None else None
        return onward(head) if onward is not None else None

    return walk


def _compile_prefixes(tree: spec.RpcMatchMap, leaf: _Leaf) -> _Walk:
    read = _compile_input(tree.input)
    ways = [(key.encode(), _compile_on_match(on_match, leaf)) for key, on_match in tree.entries]
    ways.sort(key=lambda way: -len(way[0]))

    def walk(head: PropertyView) -> Route | None:
        value = read(head)
        if value is not None:
            for prefix, onward in ways:
                if value.startswith(prefix) and (route := onward(head)) is not None:
                    return route
        return None

    return walk


def _compile_input(wanted: spec.RpcInput) -> _Input:
    match wanted.kind:
        case RpcInputKind.SERVICE | RpcInputKind.HOST:
            return lambda head: head.authority or b""
        case RpcInputKind.PATH:
            return lambda head: head.path
        case RpcInputKind.METHOD:
            return lambda head: head.method
        case RpcInputKind.PROPERTY:
            name = wanted.name.encode()
            return lambda head: head.get(name)


def compile_predicate(predicate: spec.RpcPredicate) -> _Predicate:
    """A predicate over a request. Raises ConfigError for a bad expression."""
    if isinstance(predicate, spec.ValueTest):
        return _compile_value(predicate)
    if isinstance(predicate, spec.PropertyTest):
        return compile_header(predicate.header)
    if isinstance(predicate, spec.Not):
        negated = compile_predicate(predicate.predicate)
        return lambda head: not negated(head)
    parts = [compile_predicate(part) for part in predicate.predicates]
    if len(parts) == 1:
        return parts[0]
    if isinstance(predicate, spec.AllOf):
        return lambda head: all(part(head) for part in parts)
    return lambda head: any(part(head) for part in parts)


def _compile_value(test: spec.ValueTest) -> _Predicate:
    read = _compile_input(test.input)
    matches = compile_string(test.string)

    def holds(head: PropertyView) -> bool:
        value = read(head)
        return value is not None and matches(value)

    return holds
