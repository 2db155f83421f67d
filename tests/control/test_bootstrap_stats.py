"""What `stats_config` makes of tags and buckets, before any statistic exists."""

import json
from typing import Any

import pytest

from mosn_xds.admin.tags import TagExtractor
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.stats import HISTOGRAM_BOUNDS
from mosn_xds.control.bootstrap import Bootstrap, load_bootstrap
from mosn_xds.spec.histogram_buckets import HistogramBuckets


def load(config: dict[str, Any], **more: Any) -> Bootstrap:
    return load_bootstrap(None, json.dumps({"stats_config": config, **more}))


def split(bootstrap: Bootstrap, name: str) -> tuple[str, dict[str, str]]:
    """What is left of a name, and its tags."""
    tags = bootstrap.stats.tags
    extractor = TagExtractor(
        [(tag.name, tag.regex) for tag in tags if tag.fixed_value is None],
        [(tag.name, tag.fixed_value) for tag in tags if tag.fixed_value is not None],
    )
    rest, found = extractor.split(name)
    return rest, dict(found)


def test_default_tags_are_there_unless_switched_off() -> None:
    name = "cluster.books.upstream_rq_200"
    assert split(load({}), name) == (
        "cluster.upstream_rq",
        {"envoy.cluster_name": "books", "envoy.response_code": "200"},
    )
    assert split(load({"use_all_default_tags": False}), name) == (name, {})
    named = load({"use_all_default_tags": False, "stats_tags": [{"tag_name": "envoy.response_code"}]})
    assert split(named, name) == ("cluster.books.upstream_rq", {"envoy.response_code": "200"})


def test_the_methods_of_rpc_proxies_have_their_tags_even_where_envoys_defaults_are_switched_off() -> None:
    name = "generic_proxy.shop.rpc.dubbo.com.shop.Cart.get.rq_total"
    tags = {"protocol": "dubbo", "service": "com.shop.Cart", "method": "get"}
    expected = "generic_proxy.shop.rq_total", {f"mosn_xds.rpc_{tag}": value for tag, value in tags.items()}
    assert split(load({"use_all_default_tags": False}), name) == expected
    assert split(load_bootstrap(None, "{}"), name) == expected


@pytest.mark.parametrize(
    ("regex", "name", "expected"),
    [
        (r"^listener\.(([_.[:digit:]]*)\.)", "listener.127.0.0.1_80.x", ("listener.x", {"t": "127.0.0.1_80"})),
        (r"^a\.(([[:alpha:]]+)[[:punct:]])", "a.bc.d", ("a.d", {"t": "bc"})),
        (r"^a(?=\.)(\.b)", "a.b.c", ("a.c", {"t": ".b"})),
        (r"^a\.((b)?)", "a.c", ("a.c", {"t": ""})),
        (r"^a\.b", "a.b", ("a.b", {})),
    ],
)
def test_expressions_are_ecmascripts(regex: str, name: str, expected: tuple[str, dict[str, str]]) -> None:
    tags = [{"tag_name": "t", "regex": regex}]
    assert split(load({"use_all_default_tags": False, "stats_tags": tags}), name) == expected


def test_an_expression_without_a_group_is_reported() -> None:
    unread = load({"stats_tags": [{"tag_name": "t", "regex": "a"}]}).unread
    assert unread == ("stats_config.stats_tags[0].regex (it has no group, and a tag is what its first group finds)",)


@pytest.mark.parametrize(
    ("tag", "path", "reason"),
    [
        ({"tag_name": "t", "regex": "^a(("}, "regex", "Invalid regex '^a((': missing ), unterminated subpattern"),
        ({"tag_name": "t"}, "tag_name", "No regex specified for tag specifier and no default regex for name: 't'"),
    ],
)
def test_a_tag_that_cannot_be_ends_the_start(tag: dict[str, str], path: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"stats_tags": [tag]})
    assert str(caught.value.path).endswith(f"stats_config.stats_tags[0].{path}")
    assert caught.value.reason.startswith(reason)


def test_tags_of_the_command_line_come_first_and_win() -> None:
    config = json.dumps({"stats_config": {"stats_tags": [{"tag_name": "mesh", "fixed_value": "file"}]}})
    bootstrap = load_bootstrap(None, config, universal_tags=[("mesh", "flag"), ("mesh", "later"), ("zone", "z")])
    assert split(bootstrap, "server.live") == ("server.live", {"mesh": "flag", "zone": "z"})


def test_the_first_rule_that_matches_says_which_buckets() -> None:
    rules = [
        {"match": {"suffix": "_time"}, "buckets": [7, 1]},
        {"match": {"prefix": "cluster."}, "buckets": [3]},
    ]
    buckets = HistogramBuckets(load({"histogram_bucket_settings": rules}).stats.buckets)
    assert buckets.bounds("cluster.a.upstream_rq_time") == (1, 7)
    assert buckets.bounds("cluster.a.upstream_cx_connect_ms") == (3,)
    assert buckets.bounds("http.a.downstream_cx_length_ms") == HISTOGRAM_BOUNDS


def test_what_has_no_effect_is_reported() -> None:
    bootstrap = load({}, stats_flush_interval="5s", stats_sinks=[{"name": "s"}], stats_flush_on_admin=True)
    assert sorted(bootstrap.unread) == [
        "stats_flush_interval (figures are brought up to date every second, and there are no sinks)",
        "stats_flush_on_admin",
        "stats_sinks",
    ]
