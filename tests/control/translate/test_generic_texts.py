"""What Envoy refuses in a generic_proxy, we refuse, in its words: one table, held against us and against a real Envoy."""

import json
from pathlib import Path
from typing import Any

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.bootstrap import load_bootstrap
from tests.control.translate.test_envoy_texts import envoy_complaint, one_line
from tests.control.translate.test_generic_proxy import DUBBO, GENERIC, ROUTER, an_input, by, listed, single, table, to
from tests.control.translate.test_translation import typed

NOTHING = {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {}}
UNHEARD = {"name": "x", "typed_config": NOTHING}
UNKNOWN = "Didn't find a registered implementation for 'x' with type URL: 'google.protobuf.Struct'"
DATA = "Unsupported data input type: Envoy::Extensions::NetworkFilters::GenericProxy::RequestMatchData"
A = single("Service", {"exact": "a"})
REQUEST = {"name": "m", "typed_config": typed(f"{GENERIC}.matcher.v3.RequestMatcher")}


def hosts(*found: list[str], **fields: Any) -> dict[str, Any]:
    routes = by("Service", {"a": to()})
    named = [{"name": f"v{number}", "hosts": one, "routes": routes} for number, one in enumerate(found)]
    return {"route_config": table(virtual_hosts=named, **fields)}


def routed(routes: dict[str, Any]) -> dict[str, Any]:
    return {"route_config": table(routes)}


def acted(**action: Any) -> dict[str, Any]:
    return routed(by("Service", {"a": to(**action)}))


def custom(kind: str, matcher: dict[str, Any]) -> dict[str, Any]:
    return routed(listed({"single_predicate": {"input": an_input(kind), "custom_match": matcher}}))


def mapped(kind: dict[str, Any]) -> dict[str, Any]:
    return routed({"matcher_tree": {"input": kind, "exact_match_map": {"map": {"a": to()}}}})


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no routes": ({"route_config": None}, '(field: "route_specifier", reason: is required)'),
    "no codec": ({"codec_config": None}, "(GenericProxyValidationError.CodecConfig: value is required)"),
    "an unknown codec": ({"codec_config": UNHEARD}, UNKNOWN),
    "no stat prefix": (
        {"stat_prefix": None},
        "(GenericProxyValidationError.StatPrefix: value length must be at least 1 characters)",
    ),
    "no filters": ({"filters": None}, "A terminal L7 filter is necessary for generic proxy"),
    "two routers": (
        {"filters": [ROUTER, ROUTER]},
        "Terminal filter: router must be the last generic L7 filter",
    ),
    "a table without a name": (
        {"route_config": {}},
        "RouteConfigurationValidationError.Name: value length must be at least 1 characters)",
    ),
    "rds without a name": (
        {"route_config": None, "generic_rds": {"config_source": {"ads": {}}}},
        "GenericRdsValidationError.RouteConfigName: value length must be at least 1 characters)",
    ),
    "rds without a source": (
        {"route_config": None, "generic_rds": {"route_config_name": "x"}},
        "GenericRdsValidationError.ConfigSource: value is required)",
    ),
    "no hosts": (hosts([]), "VirtualHostValidationError.Hosts: value must contain at least 1 item(s))"),
    "an empty host": (hosts([""]), "Invalid empty host name in route table"),
    "a host twice": (
        hosts(["a"], ["a"]),
        "Only unique values for host are permitted. Duplicate entry of domain a in route table",
    ),
    "a suffix twice": (
        hosts(["*.a"], ["*.a"]),
        "Only unique values for host are permitted. Duplicate entry of domain *.a in route table",
    ),
    "a prefix twice": (
        hosts(["a.*", "a.*"]),
        "Only unique values for host are permitted. Duplicate entry of domain a.* in route table",
    ),
    "two for all hosts": (hosts(["*"], ["*"]), "Only a single wildcard domain is permitted in route table"),
    "all hosts twice": (
        hosts(["*"], routes=by("Service", {"a": to()})),
        "'routes' cannot be specified at the same time as a catch-all ('*') virtual host in route table",
    ),
    "an action without a cluster": (acted(cluster=""), '(field: "cluster_specifier", reason: is required)'),
    "no weights": (
        acted(cluster="", weighted_clusters={}),
        "WeightedClusterValidationError.Clusters: value must contain at least 1 item(s))",
    ),
    "an action of another type": (routed(by("Service", {"a": {"action": UNHEARD}})), UNKNOWN),
    "keep_matching": (
        routed(by("Service", {"a": {**to(), "keep_matching": True}})),
        "requirement violation while creating route match tree: INVALID_ARGUMENT: keep_matching is not supported in this "
        "context",
    ),
    "a negative time-out": (acted(timeout="-1s"), "Invalid duration: Expected positive duration"),
    "a back-off without its base": (
        acted(retry_policy={"retry_back_off": {}}),
        "BackoffStrategyValidationError.BaseInterval: value is required)",
    ),
    "a tree without an input": (
        routed({"matcher_tree": {"exact_match_map": {"map": {"a": to()}}}}),
        "MatcherTreeValidationError.Input: value is required)",
    ),
    "a tree of no kind": (
        routed({"matcher_tree": {"input": an_input("Service")}}),
        'field: "tree_type", reason: is required)',
    ),
    "an empty map": (
        routed(by("Service", {})),
        "MatchMapValidationError.Map: value must contain at least 1 pair(s))",
    ),
    "an unknown input": (mapped(UNHEARD), UNKNOWN),
    "a map over a whole request": (
        mapped(an_input("Request")),
        f"{DATA}, currently only string type is supported in map matcher",
    ),
    "a property without a name": (
        mapped(an_input("Property")),
        "(PropertyMatchInputValidationError.PropertyName: value length must be at least 1 characters)",
    ),
    "a custom tree": (
        routed({"matcher_tree": {"input": an_input("Service"), "custom_match": UNHEARD}}),
        UNKNOWN,
    ),
    "a way to nowhere": (
        routed(by("Service", {"a": {}})),
        'field: "on_match", reason: is required)',
    ),
    "an empty list": (
        routed(listed()),
        "MatcherListValidationError.Matchers: value must contain at least 1 item(s))",
    ),
    "one of many": (
        routed(listed({"and_matcher": {"predicate": [A]}})),
        "PredicateListValidationError.Predicate: value must contain at least 2 item(s))",
    ),
    "an empty predicate": (routed(listed({})), 'field: "match_type", reason: is required)'),
    "a predicate without an input": (
        routed(listed({"single_predicate": {"value_match": {"exact": "a"}}})),
        "SinglePredicateValidationError.Input: value is required)",
    ),
    "a predicate without a matcher": (
        routed(listed({"single_predicate": {"input": an_input("Service")}})),
        'field: "matcher", reason: is required)',
    ),
    "an empty string matcher": (routed(listed(single("Service", {}))), 'field: "match_pattern", reason: is required)'),
    "a bad expression": (
        routed(listed(single("Service", {"safe_regex": {"google_re2": {}, "regex": "("}}))),
        "missing ): (",
    ),
    "an expression without an engine": (
        routed(listed(single("Service", {"safe_regex": {"regex": "a"}}))),
        'field: "engine_type", reason: is required)',
    ),
    "a string matcher for a whole request": (routed(listed(single("Request", {"exact": "a"}))), DATA),
    "a request matcher for a string": (custom("Service", REQUEST), "Unsupported data input type: string"),
    "an unknown matcher": (custom("Request", UNHEARD), UNKNOWN),
    "a property without a matcher": (
        custom(
            "Request",
            {"name": "m", "typed_config": {**REQUEST["typed_config"], "properties": [{"name": "a"}]}},
        ),
        "KeyValueMatchEntryValidationError.StringMatch: value is required)",
    ),
}


def bootstrap(change: dict[str, Any]) -> str:
    config = {
        "stat_prefix": "rpc",
        "codec_config": DUBBO,
        "filters": [ROUTER],
        "route_config": table(by("Service", {"shop": to()})),
        **change,
    }
    given = {key: value for key, value in config.items() if value is not None}
    terminal = {"name": "generic", "typed_config": typed(f"{GENERIC}.v3.GenericProxy", **given)}
    listener = {
        "name": "listener",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 10000}},
        "filter_chains": [{"filters": [terminal]}],
    }
    cluster = {"name": "there", "type": "STATIC", "load_assignment": {"cluster_name": "there"}}
    return json.dumps({"static_resources": {"clusters": [cluster], "listeners": [listener]}})


@pytest.mark.parametrize(("change", "text"), CASES.values(), ids=CASES)
def test_we_refuse_it_in_these_words(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_bootstrap(None, bootstrap(change))
    assert text in caught.value.reason
    assert caught.value.path.startswith("--config-yaml")


def test_what_is_not_changed_is_accepted() -> None:
    assert load_bootstrap(None, bootstrap({})).unread == ()


@pytest.mark.envoy
@pytest.mark.parametrize(("change", "text"), CASES.values(), ids=CASES)
def test_envoy_refuses_it_in_these_words(change: dict[str, Any], text: str, tmp_path: Path) -> None:
    assert one_line(text) in one_line(envoy_complaint(bootstrap(change), tmp_path))
