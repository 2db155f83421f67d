"""RBAC rules (envoy.config.rbac.v3): policies of permissions and principals.

A policy with a condition that cannot be evaluated here must not let anybody pass who should not: in an ALLOW list it never
matches, in a DENY list it always does. Both are reported. In shadow rules, which only count, it never matches.
"""

from collections.abc import Callable

from mosn_xds.control.translate.common import take_cidr
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.matchers import take_header_match, take_string_match
from mosn_xds.control.translate.take import Take
from mosn_xds.control.translate.uri_template import take_uri_template
from mosn_xds.spec.common import StringMatch
from mosn_xds.spec.filters import RbacAction, RbacNode, RbacPolicy, RbacRules

_ANY = (RbacNode("any"),)
_NEVER = (RbacNode("never"),)
_ROUTE_METADATA = 1


class _Unsupported(Exception):
    """A condition that cannot be evaluated; `take` and `name` say which."""

    def __init__(self, take: Take, name: str) -> None:
        super().__init__(name)
        self.take = take
        self.name = name


def take_rules(take: Take | None, context: Context, *, enforced: bool) -> RbacRules | None:
    """rbac.RBAC; None when absent."""
    if take is None:
        return None
    action = take.enum("action", RbacAction)
    policies = take.mapping("policies")
    found = []
    for name in sorted(policies):
        policy = take.inner(policies[name], f"policies.{name}")
        try:
            found.append(_take_policy(policy, name, context))
        except _Unsupported as error:
            deny = enforced and action is RbacAction.DENY
            outcome = "always" if deny else "never"
            policy.left.clear()
            error.take.ignore(error.name, f"it cannot be evaluated: the policy {outcome} matches")
            found.append(RbacPolicy(name, _ANY if deny else _NEVER, _ANY))
    return RbacRules(action, tuple(found))


def _take_policy(take: Take, name: str, context: Context) -> RbacPolicy:
    for condition in ("condition", "checked_condition"):
        if take.has(condition):
            raise _Unsupported(take, condition)
    permissions = tuple([_take_permission(one, context) for one in take.children("permissions")])
    principals = tuple([_take_principal(one, context) for one in take.children("principals")])
    return RbacPolicy(name, permissions, principals)


_Taker = Callable[[Take, Context], RbacNode]


def _take_group(take: Take, names: tuple[str, str], inside: str, context: Context, one: _Taker) -> RbacNode | None:
    for name, kind in zip(names, ("and", "or"), strict=True):
        group = take.child(name)
        if group is not None:
            return RbacNode(kind, tuple([one(child, context) for child in group.children(inside)]))
    return None


def _take_permission(take: Take, context: Context) -> RbacNode:
    group = _take_group(take, ("and_rules", "or_rules"), "rules", context, _take_permission)
    if group is not None:
        return group
    inverted = take.child("not_rule")
    if inverted is not None:
        return RbacNode("not", (_take_permission(inverted, context),))
    if take.has("destination_port"):
        return RbacNode("destination_port", port=take.integer("destination_port"))
    span = take.child("destination_port_range")
    if span is not None:
        return RbacNode("destination_port_range", port=span.integer("start"), port_end=span.integer("end"))
    address = take.child("destination_ip")
    if address is not None:
        return RbacNode("destination_ip", cidr=take_cidr(address))
    name = take.child("requested_server_name")
    if name is not None:
        return RbacNode("sni", string=take_string_match(name, context))
    if take.has("uri_template"):
        template = take_uri_template(take, context, "uri_template")
        if template is None:
            raise _Unsupported(take, "uri_template")
        return RbacNode("path", string=template)
    return _take_common(take, context)


def _take_principal(take: Take, context: Context) -> RbacNode:
    group = _take_group(take, ("and_ids", "or_ids"), "ids", context, _take_principal)
    if group is not None:
        return group
    inverted = take.child("not_id")
    if inverted is not None:
        return RbacNode("not", (_take_principal(inverted, context),))
    authenticated = take.child("authenticated")
    if authenticated is not None:
        name = authenticated.child("principal_name")
        return RbacNode("authenticated", string=None if name is None else take_string_match(name, context))
    for kind in ("source_ip", "direct_remote_ip", "remote_ip"):
        address = take.child(kind)
        if address is not None:
            return RbacNode(kind, cidr=take_cidr(address))
    state = take.child("filter_state")
    if state is not None:
        match = state.child("string_match")
        if match is None:
            raise _Unsupported(take, "filter_state")
        return RbacNode("filter_state", key_path=(state.text("key"),), string=take_string_match(match, context))
    return _take_common(take, context)


def _take_common(take: Take, context: Context) -> RbacNode:
    """What permissions and principals share."""
    if take.has("any"):
        take.skip("any")
        return RbacNode("any")
    header = take.child("header")
    if header is not None:
        return RbacNode("header", header=take_header_match(header, context))
    url = take.child("url_path")
    if url is not None:
        path = url.child("path")
        if path is None:
            raise _Unsupported(take, "url_path")
        return RbacNode("path", string=take_string_match(path, context))
    metadata = take.child("metadata")
    if metadata is not None:
        return _take_metadata(metadata, context)
    sourced = take.child("sourced_metadata")
    if sourced is not None:
        matcher = sourced.child("metadata_matcher")
        if matcher is None or sourced.integer("metadata_source") == _ROUTE_METADATA:
            raise _Unsupported(take, "sourced_metadata")
        return _take_metadata(matcher, context)
    raise _Unsupported(take, next(iter(take.left), ""))


def _take_metadata(take: Take, context: Context) -> RbacNode:
    path = (take.text("filter"), *[segment.text("key") for segment in take.children("path")])
    value = take.child("value")
    if value is None:
        raise _Unsupported(take, "value")
    invert = take.flag("invert")
    node = _take_value(value, path, context)
    return RbacNode("not", (node,)) if invert else node


def _take_value(take: Take, path: tuple[str, ...], context: Context) -> RbacNode:
    string = take.child("string_match")
    if string is not None:
        return _metadata_node("metadata", path, take_string_match(string, context))
    either = take.child("or_match")
    if either is not None:
        return RbacNode("or", tuple([_take_value(one, path, context) for one in either.children("value_matchers")]))
    inside = take.child("list_match")
    one_of = None if inside is None else inside.child("one_of")
    match = None if one_of is None else one_of.child("string_match")
    if match is None:
        raise _Unsupported(take, take.one_of("null_match", "double_match", "bool_match", "present_match") or "")
    return _metadata_node("metadata_list", path, take_string_match(match, context))


def _metadata_node(kind: str, path: tuple[str, ...], string: StringMatch) -> RbacNode:
    return RbacNode(kind, key_path=path, string=string)
