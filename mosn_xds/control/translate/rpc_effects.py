"""What a route table asks of properties, where it serves a protocol that has none.

A table does not know who uses it, and a proxy may get its table from elsewhere. So this looks at both together, once both
are translated: with the listener where the table stands in it, else whenever either comes (`control.table_uses`).
"""

from collections.abc import Iterable, Iterator

from mosn_xds.control.translate.header_ops import NO_OPS
from mosn_xds.control.translate.registry import Registry
from mosn_xds.spec.route import HeaderHash, Route, RouteAction
from mosn_xds.spec.rpc import (
    AllOf,
    AnyOf,
    Not,
    PropertyTest,
    ProtocolUse,
    RpcInput,
    RpcInputKind,
    RpcMatcher,
    RpcMatchList,
    RpcPredicate,
    RpcProxy,
    RpcRouteTable,
)


def without_effect(proxy: RpcProxy, table: RpcRouteTable, registry: Registry) -> list[str]:
    """What `table` asks in vain when `proxy` serves by it, for people."""
    matchers = [host.matcher for host in table.virtual_hosts]
    reads = any(map(_matches_properties, matchers)) or any(map(_reads, _all_routes(matchers)))
    changes = any(map(_changes, _all_routes(matchers)))
    found = []
    for use in proxy.protocols if reads or changes else ():
        if reads and not _has(use, "has_properties", registry):
            found.append(f"{use.entry} has no properties: what routes match, hash or choose by one finds none")
        if changes and not _has(use, "edits", registry):
            found.append(f"{use.entry} has no properties to change: what routes add or remove is ignored")
    return found


def _has(use: ProtocolUse, trait: str, registry: Registry) -> bool:
    has: bool = getattr(registry.protocols.load(use.entry), trait, False)
    return has


def _all_routes(matchers: Iterable[RpcMatcher]) -> Iterator[Route]:
    for matcher in matchers:
        yield from _routes(matcher)


def _routes(matcher: RpcMatcher) -> Iterator[Route]:
    """Every route that the tree may lead to."""
    ways = [matcher.no_match] if matcher.no_match is not None else []
    if isinstance(matcher.tree, RpcMatchList):
        ways += [entry.on_match for entry in matcher.tree.entries]
    elif matcher.tree is not None:
        ways += [on_match for _, on_match in matcher.tree.entries]
    for way in ways:
        if way.route is not None:
            yield way.route
        if way.matcher is not None:
            yield from _routes(way.matcher)


def _matches_properties(matcher: RpcMatcher) -> bool:
    tree = matcher.tree
    inner = [matcher.no_match] if matcher.no_match is not None else []
    if isinstance(tree, RpcMatchList):
        if any(_tests_property(entry.predicate) for entry in tree.entries):
            return True
        inner += [entry.on_match for entry in tree.entries]
    elif tree is not None:
        if _is_property(tree.input):
            return True
        inner += [on_match for _, on_match in tree.entries]
    return any(way.matcher is not None and _matches_properties(way.matcher) for way in inner)


def _tests_property(predicate: RpcPredicate) -> bool:
    if isinstance(predicate, AllOf | AnyOf):
        return any(map(_tests_property, predicate.predicates))
    if isinstance(predicate, Not):
        return _tests_property(predicate.predicate)
    if isinstance(predicate, PropertyTest):
        return _is_name(predicate.header.name)
    return _is_property(predicate.input)


def _is_property(asked: RpcInput) -> bool:
    return asked.kind is RpcInputKind.PROPERTY and _is_name(asked.name)


def _is_name(name: str) -> bool:
    """Not one of HTTP's pseudo headers, which stand for service, method and path."""
    return bool(name) and not name.startswith(":")


def _reads(route: Route) -> bool:
    action = route.action
    return isinstance(action, RouteAction) and (
        _is_name(action.cluster_header)
        or _is_name(action.weighted_header)
        or any(isinstance(one, HeaderHash) and _is_name(one.name) for one in action.hash_policy)
    )


def _changes(route: Route) -> bool:
    weighted = route.action.weighted if isinstance(route.action, RouteAction) else ()
    return any(ops != NO_OPS for ops in (route.headers, *(one.headers for one in weighted)))
