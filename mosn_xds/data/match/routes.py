"""Route tables as the data path uses them: built once from a Spec, asked for every request.

First match wins. The path is looked at first, as it is the cheapest test and the one that fails most; a route's other
conditions follow from cheap to dear. All kinds of path match compare the path without its query (so does Envoy 1.40,
whatever its documentation says of `prefix`). What a route means to the layers above (header operations, rewrites, hash
policies) they compile themselves, at build time, into the `plan` of each route; nothing here knows what is in it. No object
refers to the table that holds it: a table that is swapped out is freed at once.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.match.domains import DomainTable, without_port
from mosn_xds.data.match.head import PeerView, RequestView
from mosn_xds.data.match.headers import compile_header, first_value
from mosn_xds.data.match.query import compile_query, query_parameters
from mosn_xds.data.match.route_index import RouteIndex
from mosn_xds.data.match.strings import BytesPredicate, compile_regex
from mosn_xds.data.match.weights import WeightedClusters
from mosn_xds.spec import route as spec
from mosn_xds.spec.filters import PerFilter
from mosn_xds.spec.route import PathKind, TlsRequirement

_SLASH: Final = 0x2F

Planner = Callable[[spec.RouteTable, spec.VirtualHost, spec.Route], object]
"""Compiles what the layers above need of a route. May raise ConfigError."""


class Route:
    """One compiled route.

    `plan` is what the planner made of it; `weights` is there when its action names weighted clusters; `per_filter` holds
    the most specific filter configuration of table, virtual host and route, by filter name (a weighted cluster's own
    goes before it); `upgrades` says for an upgrade type whether this route allows it, where it says anything.
    """

    __slots__ = (
        "_fraction",
        "_grpc_only",
        "_headers",
        "_presented",
        "_query",
        "_verified",
        "connect_only",
        "idle_timeout_s",
        "name",
        "per_filter",
        "plan",
        "spec",
        "upgrades",
        "weights",
    )

    def __init__(self, route: spec.Route, plan: Any, per_filter: dict[str, PerFilter]) -> None:
        match = route.match
        self.spec = route
        self.name = route.name
        self.plan = plan
        self.per_filter = per_filter
        self.connect_only = match.path_kind is PathKind.CONNECT
        self._fraction = match.runtime_fraction
        self._grpc_only = match.grpc_only
        self._presented = match.peer_presented
        self._verified = match.peer_validated
        self._headers = tuple((f"header {header.name}", compile_header(header)) for header in match.headers)
        self._query = tuple((f"query parameter {query.name}", compile_query(query)) for query in match.query)
        self.weights: WeightedClusters | None = None
        self.idle_timeout_s: float | None = None
        self.upgrades: dict[bytes, bool] | None = None
        action = route.action
        if isinstance(action, spec.RouteAction):
            if action.weighted:
                self.weights = WeightedClusters(action.weighted, action.weighted_header)
            self.idle_timeout_s = action.idle_timeout_s
            if action.upgrades:
                self.upgrades = {policy.upgrade_type.lower().encode(): policy.enabled for policy in action.upgrades}

    def __repr__(self) -> str:
        match = self.spec.match
        return f"<Route {self.name or '(unnamed)'} {match.path_kind.name.lower()} {match.path}>"

    @property
    def conditional(self) -> bool:
        """Whether there is more to it than the path."""
        rare = self._fraction is not None or self._presented is not None or self._verified is not None
        return bool(self._headers or self._query or self._grpc_only or self.connect_only or rare)

    def refusal(self, head: RequestView, stable_random: int, peer: PeerView | None = None) -> str | None:
        """The first condition, the path aside, that the request does not meet; None when it meets them all. `peer` is there
        for requests that came by TLS."""
        fraction = self._fraction
        if fraction is not None and stable_random % fraction.denominator >= fraction.numerator:
            return "runtime_fraction"
        if self.connect_only and head.method != b"CONNECT":
            return "connect_matcher"
        for name, test in self._headers:
            if not test(head):
                return name
        if self._presented is not None and self._presented is not (peer is not None and peer.presented):
            return "tls_context presented"
        if self._verified is not None and self._verified is not (peer is not None and peer.verified):
            return "tls_context validated"
        if self._grpc_only and not _is_grpc(head):
            return "grpc"
        if self._query:
            parameters = query_parameters(head.path)
            for name, holds in self._query:
                if not holds(parameters):
                    return name
        return None


_Entry = tuple[bytes, BytesPredicate | None, bool, Route]
"""How a route is tried: the literal its path begins with, what else the path must satisfy, whether there is more, itself."""


class VirtualHost:
    """One compiled virtual host, shared by all tables that hold the same `uid`."""

    __slots__ = ("_connect_entries", "_entries", "_ignore_parameters", "_index", "name", "require_tls", "spec", "uid")

    def __init__(self, uid: bytes, virtual_host: spec.VirtualHost, table: spec.RouteTable, planner: Planner) -> None:
        self.uid = uid
        self.spec = virtual_host
        self.name = virtual_host.name
        self.require_tls: TlsRequirement = virtual_host.require_tls
        self._ignore_parameters = table.ignore_path_parameters
        above = {**dict(table.per_filter), **dict(virtual_host.per_filter)}
        entries: list[_Entry] = []
        for position, route in enumerate(virtual_host.routes):
            try:
                literal, test = _compile_path(route.match)
                compiled = Route(route, planner(table, virtual_host, route), {**above, **dict(route.per_filter)})
            except ConfigError as error:
                raise error.under(f"routes[{position}]") from None
            entries.append((literal, test, compiled.conditional, compiled))
        self._entries = tuple(entries)
        self._connect_entries = [entry for entry in entries if entry[3].connect_only]
        self._index = RouteIndex.if_worthwhile([entry[0] for entry in entries])

    def __repr__(self) -> str:
        return f"<VirtualHost {self.name} {len(self._entries)} routes>"

    @property
    def routes(self) -> list[Route]:
        """In the order of the configuration."""
        return [entry[3] for entry in self._entries]

    def match(self, head: RequestView, stable_random: int, peer: PeerView | None = None) -> Route | None:
        """The first route that takes the request. `stable_random` is the stream's number of 64 bits, the same each time;
        `peer` as for `Route.refusal`."""
        path = self._path(head)
        entries: Iterable[_Entry] = self._entries
        if not path:
            entries = self._connect_entries
        elif self._index is not None:
            entries = [self._entries[position] for position in self._index.candidates(path)]
        for literal, test, conditional, route in entries:
            if (
                path.startswith(literal)
                and (test is None or test(path))
                and (not conditional or route.refusal(head, stable_random, peer) is None)
            ):
                return route
        return None

    def explain(
        self, head: RequestView, stable_random: int, peer: PeerView | None = None
    ) -> list[tuple[Route, str | None]]:
        """Each route that `match` looks at, in order, with the first condition that the request does not meet.

        The last one takes the request if its condition is None; if none is, no route does.
        """
        path = self._path(head)
        told: list[tuple[Route, str | None]] = []
        for literal, test, _, route in self._entries:
            if (path or route.connect_only) and path.startswith(literal) and (test is None or test(path)):
                refusal = route.refusal(head, stable_random, peer)
            else:
                refusal = "path"
            told.append((route, refusal))
            if refusal is None:
                break
        return told

    def _path(self, head: RequestView) -> bytes:
        path = head.path
        mark = path.find(b"?")
        if mark >= 0:
            path = path[:mark]
        if self._ignore_parameters and (mark := path.find(b";")) >= 0:
            path = path[:mark]
        return path


class RouteTable:
    """envoy.config.route.v3.RouteConfiguration, compiled."""

    __slots__ = ("_by_uid", "_domains", "_frame", "_ignore_port", "_vhost_header", "_virtual_hosts", "name", "spec")

    def __init__(
        self, table: spec.RouteTable, frame: spec.RouteTable, domains: DomainTable, hosts: list[VirtualHost]
    ) -> None:
        self.spec = table
        self.name = table.name
        self._frame = frame
        self._domains = domains
        self._virtual_hosts = hosts
        self._by_uid = {host.uid: host for host in hosts}
        self._ignore_port = table.ignore_port_in_host
        self._vhost_header = table.vhost_header.lower().encode()

    @classmethod
    def build(cls, table: spec.RouteTable, planner: Planner, previous: "RouteTable | None" = None) -> "RouteTable":
        """Compile `table`; virtual hosts that `previous` has with the same uid are taken over as they are.

        Raises ConfigError with the field path of what cannot be used.
        """
        frame = msgspec.structs.replace(table, virtual_hosts=(), clusters=())
        known = previous._by_uid if previous is not None and previous._frame == frame else {}
        decoder = msgspec.msgpack.Decoder(spec.VirtualHost)
        hosts: list[VirtualHost] = []
        for position, reference in enumerate(table.virtual_hosts):
            host = known.get(reference.uid)
            if host is None:
                try:
                    host = VirtualHost(reference.uid, decoder.decode(reference.raw), table, planner)
                except ConfigError as error:
                    raise error.under(f"virtual_hosts[{position}]") from None
            hosts.append(host)
        domains = tuple(reference.domains for reference in table.virtual_hosts)
        if previous is not None and previous._domains.domains == domains:
            return cls(table, frame, previous._domains, hosts)
        return cls(table, frame, DomainTable(domains), hosts)

    def __repr__(self) -> str:
        return f"<RouteTable {self.name} {len(self._virtual_hosts)} virtual hosts>"

    @property
    def virtual_hosts(self) -> list[VirtualHost]:
        """In the order of the configuration."""
        return self._virtual_hosts

    def virtual_host(self, head: RequestView) -> VirtualHost | None:
        """Whose the request is. The caller asks `require_tls` of it before its routes, as Envoy does."""
        host = head.authority or b""
        if self._vhost_header:
            host = first_value(head, self._vhost_header) or b""
            if not host:
                return None
        if self._ignore_port:
            host = without_port(host)
        position = self._domains.find(host)
        return self._virtual_hosts[position] if position >= 0 else None

    def match(self, head: RequestView, stable_random: int) -> tuple[VirtualHost, Route | None] | None:
        """Virtual host and route of a request; None when there is not even a virtual host."""
        host = self.virtual_host(head)
        return (host, host.match(head, stable_random)) if host is not None else None


def _compile_path(match: spec.RouteMatch) -> tuple[bytes, BytesPredicate | None]:
    """The literal that a path must begin with, and what else must hold for it."""
    kind = match.path_kind
    if kind is PathKind.CONNECT:
        return b"", None
    if kind is PathKind.REGEX:
        try:
            return b"", compile_regex(match.path)
        except ConfigError as error:
            raise error.under("match.safe_regex") from None
    text = match.path.encode()
    if not match.case_sensitive:
        literal, test = _compile_literal(kind, text.lower())
        return b"", lambda path: (lower := path.lower()).startswith(literal) and (test is None or test(lower))
    return _compile_literal(kind, text)


def _compile_literal(kind: PathKind, text: bytes) -> tuple[bytes, BytesPredicate | None]:
    size = len(text)
    if kind is PathKind.PREFIX:
        return text, None
    if kind is PathKind.EXACT:
        return text, lambda path: len(path) == size
    return text, lambda path: len(path) == size or path[size] == _SLASH


def _is_grpc(head: RequestView) -> bool:
    value = first_value(head, b"content-type") or b""
    return value == b"application/grpc" or value.startswith(b"application/grpc+")
