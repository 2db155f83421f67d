"""RBAC: every permission and principal, actions, shadow rules, routes, connections."""

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.filters.harness import FilterHarness, HarnessStream
from mosn_xds.data.filters.network_rbac import NetworkRbacFilter
from mosn_xds.data.filters.rbac import RbacFilter
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.spec.common import Address, CidrRange, HeaderMatch, StringMatch, StringMatchKind
from mosn_xds.spec.filters import PerFilter, RbacAction, RbacNode, RbacPerRoute, RbacPolicy, RbacRules
from mosn_xds.spec.filters import RbacFilter as RbacSpec
from mosn_xds.spec.listener import NetworkRbac

ANY = RbacNode("any")
ALLOW, DENY, LOG = RbacAction.ALLOW, RbacAction.DENY, RbacAction.LOG


def exact(text: str) -> StringMatch:
    return StringMatch(StringMatchKind.EXACT, text)


def header(name: str, value: str, *, invert: bool = False) -> RbacNode:
    return RbacNode("header", header=HeaderMatch(name, exact(value), invert=invert))


def rules(action: RbacAction, permission: RbacNode, principal: RbacNode = ANY, name: str = "p") -> RbacRules:
    return RbacRules(action, (RbacPolicy(name, (permission,), (principal,)),))


class Bench:
    def __init__(self, spec: RbacSpec, route: PerFilter | None = None) -> None:
        self.stats = StatRegistry()
        rbac = RbacFilter(spec, self.stats, "http.test.")
        rbac.name = "rbac"
        per_filter = {} if route is None else {"rbac": route}
        self.harness = FilterHarness(
            rbac, per_filter=per_filter, remote=Address("10.0.0.1", 4000), local=Address("10.0.0.2", 8080)
        )
        self.harness.connection.sni = "shop.example"
        self.harness.connection.direct_remote = Address("10.0.0.9", 4000)

    def request(self, **other: object) -> HarnessStream:
        fields = [(b"x-a", b"1"), (b"x-a", b"2")]
        return self.harness.request(
            b"GET", b"/p?q#f", fields, authority=b"shop",
            metadata={"jwt": {"payload": {"iss": "me", "aud": ["a", "b"], "n": 1}}},
            remote=Address("203.0.113.7", 1), **other,  # type: ignore[arg-type]
        )  # fmt: skip

    def counters(self) -> dict[str, int]:
        return {
            change.prefix + name: amount
            for change in self.stats.take_changes()
            for name, amount in change.counters.items()
        }


def cidr(kind: str, prefix: str, length: int) -> RbacNode:
    return RbacNode(kind, cidr=CidrRange(prefix, length))


NODES: list[tuple[RbacNode, bool]] = [
    (ANY, True),
    (RbacNode("never"), False),
    (header("x-a", "1"), True),
    (header("x-a", "2"), True),
    (header("x-a", "1,2"), False),
    (header("x-a", "3"), False),
    (header("x-a", "3", invert=True), True),
    (header("x-a", "2", invert=True), False),
    (header("x-b", "3", invert=True), False),
    (header(":method", "GET"), True),
    (header(":authority", "shop"), True),
    (header("host", "shop"), True),
    (header(":path", "/p"), False),
    (RbacNode("path", string=exact("/p")), True),
    (RbacNode("path", string=exact("/p?q")), False),
    (RbacNode("path", string=StringMatch(StringMatchKind.REGEX, "/.*")), True),
    (RbacNode("destination_port", port=8080), True),
    (RbacNode("destination_port", port=4000), False),
    (RbacNode("destination_port_range", port=8000, port_end=8081), True),
    (RbacNode("destination_port_range", port=8000, port_end=8080), False),
    (cidr("destination_ip", "10.0.0.2", 32), True),
    (cidr("destination_ip", "10.0.0.1", 32), False),
    (cidr("source_ip", "10.0.0.1", 32), True),
    (cidr("direct_remote_ip", "10.0.0.9", 32), True),
    (cidr("direct_remote_ip", "10.0.0.1", 32), False),
    (cidr("remote_ip", "203.0.113.0", 24), True),
    (cidr("remote_ip", "10.0.0.0", 8), False),
    (cidr("remote_ip", "2001:db8::", 32), False),
    (RbacNode("sni", string=StringMatch(StringMatchKind.SUFFIX, ".example")), True),
    (RbacNode("sni", string=exact("other")), False),
    (RbacNode("authenticated"), False),
    (RbacNode("authenticated", string=exact("spiffe://a")), False),
    (RbacNode("filter_state", key_path=("k",), string=exact("v")), False),
    (RbacNode("metadata", key_path=("jwt", "payload", "iss"), string=exact("me")), True),
    (RbacNode("metadata", key_path=("jwt", "payload", "iss"), string=exact("you")), False),
    (RbacNode("metadata", key_path=("jwt", "payload", "n"), string=exact("1")), False),
    (RbacNode("metadata", key_path=("jwt", "payload", "iss", "deeper"), string=exact("me")), False),
    (RbacNode("metadata", key_path=("other", "payload"), string=exact("me")), False),
    (RbacNode("metadata_list", key_path=("jwt", "payload", "aud"), string=exact("b")), True),
    (RbacNode("metadata_list", key_path=("jwt", "payload", "aud"), string=exact("c")), False),
    (RbacNode("metadata_list", key_path=("jwt", "payload", "iss"), string=exact("me")), False),
    (RbacNode("and", (ANY, header("x-a", "1"))), True),
    (RbacNode("and", (ANY, header("x-a", "3"))), False),
    (RbacNode("or", (header("x-a", "3"), header("x-a", "1"))), True),
    (RbacNode("or", (header("x-a", "3"), RbacNode("never"))), False),
    (RbacNode("not", (RbacNode("never"),)), True),
    (RbacNode("not", (RbacNode("authenticated"),)), True),
    (RbacNode("not", (ANY,)), False),
    (RbacNode("any", invert=True), False),
]


@pytest.mark.parametrize("number", range(len(NODES)))
def test_permissions_and_principals(number: int) -> None:
    node, matches = NODES[number]
    for as_rules in (rules(ALLOW, node), rules(ALLOW, ANY, node)):
        assert Bench(RbacSpec(as_rules)).request().forwarded == matches
    assert Bench(RbacSpec(rules(DENY, node))).request().forwarded != matches


def test_denial() -> None:
    answer = Bench(RbacSpec(rules(DENY, ANY, name="ns[foo] policy"))).request().answer
    assert answer is not None
    assert (answer.status, answer.body) == (403, b"RBAC: access denied")
    assert answer.details == "rbac_access_denied_matched_policy[ns[foo]_policy]"


def test_nothing_matched_is_a_denial_by_none() -> None:
    answer = Bench(RbacSpec(RbacRules(ALLOW))).request().answer
    assert answer is not None
    assert answer.details == "rbac_access_denied_matched_policy[none]"


def test_deny_without_policies_and_log_let_everything_pass() -> None:
    assert Bench(RbacSpec(RbacRules(DENY))).request().forwarded
    assert Bench(RbacSpec(rules(LOG, RbacNode("never")))).request().forwarded
    assert Bench(RbacSpec()).request().forwarded


def test_one_permission_and_one_principal_must_match() -> None:
    yes, no = header("x-a", "1"), header("x-a", "3")
    for permissions, principals, allowed in (
        ((no, yes), (no, yes), True),
        ((no, no), (yes,), False),
        ((yes,), (no, no), False),
        ((), (yes,), False),
        ((yes,), (), False),
    ):
        policy = RbacPolicy("p", permissions, principals)
        assert Bench(RbacSpec(RbacRules(ALLOW, (policy,)))).request().forwarded == allowed


def test_the_first_matching_policy_is_named() -> None:
    policies = tuple(
        RbacPolicy(name, (header("x-a", value),), (ANY,)) for name, value in (("a", "3"), ("b", "1"), ("c", "2"))
    )
    stream = Bench(RbacSpec(RbacRules(DENY, policies))).request()
    assert stream.details == "rbac_access_denied_matched_policy[b]"


def test_shadow_rules_are_counted_and_let_pass() -> None:
    spec = RbacSpec(rules(ALLOW, ANY, name="real"), rules(DENY, ANY, name="dry"), "dry_run_", "real_")
    bench = Bench(spec)
    stream = bench.request()
    assert stream.forwarded
    assert bench.counters() == {
        "http.test.rbac.dry_run_.shadow_denied": 1,
        "http.test.rbac.real_.allowed": 1,
    }
    assert stream.metadata is not None
    assert stream.metadata["envoy.filters.http.rbac"] == {
        "dry_run_shadow_effective_policy_id": "dry",
        "dry_run_shadow_engine_result": "denied",
        "enforced_effective_policy_id": "real",
        "enforced_engine_result": "allowed",
    }


def test_stats() -> None:
    bench = Bench(RbacSpec(rules(DENY, ANY), RbacRules(DENY)))
    bench.request()
    assert bench.counters() == {"http.test.rbac.denied": 1, "http.test.rbac.shadow_allowed": 1}


def test_route_replaces_or_disables_the_rules() -> None:
    denying = RbacSpec(rules(DENY, ANY))
    assert Bench(denying, RbacPerRoute()).request().forwarded
    assert Bench(denying, RbacPerRoute(RbacSpec(RbacRules(DENY)))).request().forwarded
    bench = Bench(RbacSpec(), RbacPerRoute(denying))
    assert bench.request().answer is not None
    assert bench.request().answer is not None


def test_bad_rules_are_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="missing"):
        Bench(RbacSpec(rules(DENY, RbacNode("path", string=StringMatch(StringMatchKind.REGEX, "(")))))
    with pytest.raises(ConfigError, match="no RBAC rule of kind 'odd'"):
        Bench(RbacSpec(rules(DENY, RbacNode("odd"))))


def connection() -> ConnectionInfo:
    return ConnectionInfo(id=1, remote=Address("10.0.0.1", 1), local=Address("10.0.0.2", 80), start_s=0, start_wall_s=0)


def test_connections() -> None:
    stats = StatRegistry()
    denying = NetworkRbac("tcp.", rules(DENY, cidr("source_ip", "10.0.0.1", 32), name="a b"), rules(ALLOW, ANY), "dry_")
    assert NetworkRbacFilter(denying, stats).refuse(connection()) == "rbac_access_denied_matched_policy[a_b]"
    allowing = NetworkRbac("tcp", rules(ALLOW, RbacNode("destination_port", port=80)))
    assert NetworkRbacFilter(allowing, stats).refuse(connection()) is None
    counted = {c.prefix + n: a for c in stats.take_changes() for n, a in c.counters.items()}
    assert counted == {"tcp.rbac.denied": 1, "tcp.rbac.allowed": 1, "tcp.rbac.dry_.shadow_allowed": 1}


def test_a_connection_has_no_headers() -> None:
    spec = NetworkRbac("tcp", rules(ALLOW, header("x-a", "1")))
    assert NetworkRbacFilter(spec, StatRegistry()).refuse(connection()) is not None
    assert NetworkRbacFilter(NetworkRbac("tcp"), StatRegistry()).refuse(connection()) is None
