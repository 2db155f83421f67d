"""Matcher trees over RPC requests (xds.type.matcher.v3.Matcher), with generic_proxy's inputs.

Inputs, matchers and actions are extensions, found by their types. What is not known is refused: a tree that is only partly
understood would lead requests elsewhere. Texts are Envoy's.
"""

from dataclasses import dataclass
from typing import Any

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.matchers import take_string_match
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.rpc import (
    AllOf,
    AnyOf,
    Not,
    RpcInput,
    RpcInputKind,
    RpcMatchEntry,
    RpcMatcher,
    RpcMatchList,
    RpcMatchMap,
    RpcOnMatch,
    RpcPredicate,
    ValueTest,
)

_REQUEST_DATA = "Envoy::Extensions::NetworkFilters::GenericProxy::RequestMatchData"
_UNSUPPORTED = "Unsupported data input type:"


@dataclass(frozen=True, slots=True)
class WholeRequest:
    """The input that is no string: custom matchers look at all of the request."""


def take_matcher(take: Take, context: Context) -> RpcMatcher:
    """xds.type.matcher.v3.Matcher. The clusters that its actions name are in the report."""
    listed = take.child("matcher_list")
    tree = take.child("matcher_tree")
    no_match = take.child("on_no_match")
    return RpcMatcher(
        _take_list(listed, context) if listed is not None else _take_tree(tree, context) if tree is not None else None,
        None if no_match is None else _take_on_match(no_match, context),
    )


def _take_on_match(take: Take, context: Context) -> RpcOnMatch:
    if take.flag("keep_matching"):
        raise take.error(
            "keep_matching",
            "requirement violation while creating route match tree: INVALID_ARGUMENT: keep_matching is not supported in "
            "this context",
        )
    nested = take.child("matcher")
    if nested is not None:
        return RpcOnMatch(matcher=take_matcher(nested, context))
    return RpcOnMatch(_take_extension(take, "action", Category.RPC_ACTION, context))


def _take_extension(parent: Take, field: str, category: Category, context: Context) -> Any:
    """What stands in a TypedExtensionConfig. Raises ConfigError for what nobody knows."""
    take = parent.child(field)
    if take is None:
        raise parent.error(field, f"{field} is required")
    name = take.text("name")
    found = context.extension(take, "typed_config", category, name)
    if found.value is None:
        raise take.error(
            "typed_config",
            f"Didn't find a registered implementation for '{name}' with type URL: '{found.type_name}'",
        )
    return found.value


def _take_list(take: Take, context: Context) -> RpcMatchList:
    entries = []
    for one in take.children("matchers"):
        predicate, on_match = one.child("predicate"), one.child("on_match")
        if predicate is None or on_match is None:
            raise one.error("", "a predicate and on_match are required")
        entries.append(RpcMatchEntry(_take_predicate(predicate, context), _take_on_match(on_match, context)))
    return RpcMatchList(tuple(entries))


def _take_tree(take: Take, context: Context) -> RpcMatchMap:
    found = _take_extension(take, "input", Category.RPC_INPUT, context)
    if not isinstance(found, RpcInput):
        raise take.error(
            "input", f"{_UNSUPPORTED} {_REQUEST_DATA}, currently only string type is supported in map matcher"
        )
    for field, prefixes in (("exact_match_map", False), ("prefix_match_map", True)):
        ways = take.child(field)
        if ways is not None:
            inner = ways.mapping("map")
            entries = [
                (key, _take_on_match(ways.inner(inner[key], f"map.{key}"), context)) for key in sorted(inner)
            ]  # maps have no order
            return RpcMatchMap(found, tuple(entries), prefixes)
    custom = take.child("custom_match")
    name, config = ("", None) if custom is None else (custom.text("name"), custom.message_of("typed_config"))
    type_name = "" if config is None else config.type_url.rpartition("/")[2]
    raise take.error(
        "custom_match", f"Didn't find a registered implementation for '{name}' with type URL: '{type_name}'"
    )


def _take_predicate(take: Take, context: Context) -> RpcPredicate:
    single = take.child("single_predicate")
    if single is not None:
        return _take_single(single, context)
    negated = take.child("not_matcher")
    if negated is not None:
        return Not(_take_predicate(negated, context))
    every = take.child("and_matcher")
    if every is not None:
        return AllOf(tuple([_take_predicate(one, context) for one in every.children("predicate")]))
    some = take.child("or_matcher")
    if some is not None:
        return AnyOf(tuple([_take_predicate(one, context) for one in some.children("predicate")]))
    raise take.error("", "a predicate is required")


def _take_single(take: Take, context: Context) -> RpcPredicate:
    found = _take_extension(take, "input", Category.RPC_INPUT, context)
    value = take.child("value_match")
    if value is not None:
        if not isinstance(found, RpcInput):
            raise take.error("input", f"{_UNSUPPORTED} {_REQUEST_DATA}")
        return ValueTest(found, take_string_match(value, context))
    predicate: RpcPredicate = _take_extension(take, "custom_match", Category.RPC_MATCHER, context)
    if isinstance(found, RpcInput):
        raise take.error("input", f"{_UNSUPPORTED} string")
    return predicate


# --- generic_proxy.matcher.v3 ---------------------------------------------------------------------------------------


def service_input(take: Take, context: Context, name: str) -> RpcInput:
    """ServiceMatchInput."""
    return RpcInput(RpcInputKind.SERVICE)


def host_input(take: Take, context: Context, name: str) -> RpcInput:
    """HostMatchInput."""
    return RpcInput(RpcInputKind.HOST)


def path_input(take: Take, context: Context, name: str) -> RpcInput:
    """PathMatchInput."""
    return RpcInput(RpcInputKind.PATH)


def method_input(take: Take, context: Context, name: str) -> RpcInput:
    """MethodMatchInput."""
    return RpcInput(RpcInputKind.METHOD)


def property_input(take: Take, context: Context, name: str) -> RpcInput:
    """PropertyMatchInput."""
    return RpcInput(RpcInputKind.PROPERTY, take.text("property_name"))


def request_input(take: Take, context: Context, name: str) -> WholeRequest:
    """RequestMatchInput."""
    return WholeRequest()


def request_matcher(take: Take, context: Context, name: str) -> AllOf:
    """RequestMatcher: what it names must match, all of it."""
    found: list[RpcPredicate] = []
    for field, kind in (("host", RpcInputKind.HOST), ("path", RpcInputKind.PATH), ("method", RpcInputKind.METHOD)):
        match = take.child(field)
        if match is not None:
            found.append(ValueTest(RpcInput(kind), take_string_match(match, context)))
    for one in take.children("properties"):
        key, match = one.text("name"), one.child("string_match")
        if match is None:
            raise one.error("string_match", "a string_match is required")
        found.append(ValueTest(RpcInput(RpcInputKind.PROPERTY, key), take_string_match(match, context)))
    return AllOf(tuple(found))
