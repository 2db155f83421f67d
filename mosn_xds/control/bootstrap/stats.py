"""What a bootstrap says about statistics: which there are, which parts of their names are tags, which buckets they have.

A tag's regular expression is ECMAScript's, as in Envoy; it runs as Python's, which differs in the POSIX classes that Istio's
expressions are full of (``[_.[:digit:]]``). A tag with neither expression nor value is one of Envoy's own, by its name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.matchers import take_string_match
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.histogram_buckets import BucketRule
from mosn_xds.spec.stats_matcher import EVERYTHING, NOTHING, StatsPatterns

_PREFIX = "envoy.http_conn_manager_prefix"
_ADDRESS = "envoy.listener_address"

DEFAULT_TAGS: tuple[tuple[str, str], ...] = (
    ("envoy.response_code", r"_rq(_(\d{3}))$"),
    ("envoy.response_code_class", r"_rq_?((\d))xx$"),
    ("envoy.cluster_name", r"^cluster\.(([^.]+)\.)"),
    (_PREFIX, r"^listener\..*?\.http\.((.+?)\.)downstream_"),
    (_PREFIX, r"^http\.((.+?)\.)(?:downstream_|no_|rq|rs_|tracing|rds|fault|cors|rbac|user_agent)"),
    (_PREFIX, r"^http\.(([^.]+)\.)"),
    ("envoy.tcp_prefix", r"^tcp\.((.+?)\.)(?:downstream_|idle|max_|upstream_|on_demand)"),
    ("envoy.worker_id", r"^(?:listener\..*?\.|listener_manager\.|server\.)(worker_(\d+)\.)"),
    (_ADDRESS, r"^listener\.(((?:[_.\d]+|[_\[\]a-fA-F\d]+))\.)(?=[a-z])"),
    (_ADDRESS, r"^listener\.(([^.]+)\.)"),
    ("envoy.virtual_host", r"^vhost\.(([^.]+)\.)"),
    ("envoy.virtual_cluster", r"^vhost\.(?:[^.]+\.)?vcluster\.(([^.]+)\.)"),
    ("envoy.route", r"^vhost\.(?:[^.]+\.)?route\.(([^.]+)\.)"),
    ("envoy.rds_route_config", r"^http\..*?rds\.((.+?)\.)(?:config_reload|init_fetch|update_|version)"),
)
"""Envoy's default tags of the statistics that there are here. Several of one name are tried in order."""

RPC_TAGS: tuple[tuple[str, str], ...] = (
    ("mosn_xds.rpc_protocol", r"\.(rpc\.([^.]+)\.).+\.[^.]+\.rq_(?:total|error|time)$"),
    ("mosn_xds.rpc_service", r"\.rpc\.[^.]+\.((.+)\.)[^.]+\.rq_(?:total|error|time)$"),
    ("mosn_xds.rpc_method", r"\.rpc\.[^.]+\..+\.(([^.]+)\.)rq_(?:total|error|time)$"),
)
"""Of the methods of RPC proxies; `use_all_default_tags`, which is about Envoy's, leaves them alone."""

_TAGS_OF_ABSENT_STATS = frozenset(
    f"envoy.{name}"
    for name in (
        "clientssl_prefix", "connection_limit_prefix", "dns_filter_prefix", "dynamo_operation", "dynamo_partition_id",
        "dynamo_table", "ext_authz_prefix", "fault_downstream_cluster", "google_grpc_client_prefix", "grpc_bridge_method",
        "grpc_bridge_service", "http_user_agent", "local_http_ratelimit_prefix", "local_listener_ratelimit_prefix",
        "local_network_ratelimit_prefix", "mongo_callsite", "mongo_cmd", "mongo_collection", "mongo_prefix",
        "proxy_protocol_prefix", "proxy_protocol_version", "ratelimit_prefix", "rbac_http_prefix", "rbac_policy_name",
        "rbac_prefix", "redis_prefix", "scoped_rds_config", "ssl_cipher", "ssl_cipher_suite", "ssl_curve", "ssl_sigalg",
        "ssl_version", "thrift_prefix", "tls_certificate", "udp_prefix", "xds_authority", "xds_resource_name",
        "xds_resource_type",
    )
)  # fmt: skip
"""Envoy's default tags that no statistic here can have."""

_POSIX_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": r" \t", "cntrl": r"\x00-\x1f\x7f", "digit": "0-9",
        "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\s", "upper": "A-Z",
        "word": r"\w", "w": r"\w", "d": "0-9", "s": r"\s", "xdigit": "0-9a-fA-F",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StatTag:
    """A tag: the expression that finds it in a stat's name (Python's), or the value that every stat has."""

    name: str
    regex: str = ""
    fixed_value: str | None = None


@dataclass(frozen=True, slots=True)
class StatsSettings:
    """stats_config, with the default tags in their place and those of the command line before all others."""

    tags: tuple[StatTag, ...] = tuple([StatTag(name, regex) for name, regex in (*DEFAULT_TAGS, *RPC_TAGS)])
    patterns: StatsPatterns = EVERYTHING
    buckets: tuple[BucketRule, ...] = ()


def take_stats(bootstrap: Take, context: Context, universal: Sequence[tuple[str, str]] = ()) -> StatsSettings:
    """The bootstrap's settings; `universal` tags are the command line's. Raises ConfigError."""
    if bootstrap.has("stats_flush_interval"):
        bootstrap.ignore("stats_flush_interval", "figures are brought up to date every second, and there are no sinks")
    tags = [StatTag(name, fixed_value=value) for name, value in universal]
    own = [StatTag(name, regex) for name, regex in RPC_TAGS]
    take = bootstrap.child("stats_config")
    if take is None:
        return StatsSettings((*tags, *_defaults(), *own))
    for one in take.children("stats_tags"):
        tags += _take_tag(one)
    if take.wrapped_flag("use_all_default_tags") is not False:
        tags += _defaults()
    buckets = []
    for one in take.children("histogram_bucket_settings"):
        match = one.child("match")
        bounds = tuple(sorted(one.left.pop("buckets", ())))
        if match is not None:
            buckets.append(BucketRule(take_string_match(match, context), bounds))
    return StatsSettings((*tags, *own), _take_patterns(take.child("stats_matcher"), context), tuple(buckets))


def _defaults(name: str | None = None) -> list[StatTag]:
    return [StatTag(known, regex) for known, regex in DEFAULT_TAGS if name in (None, known)]


def _take_tag(take: Take) -> list[StatTag]:
    name = take.text("tag_name")
    if take.has("fixed_value"):
        return [StatTag(name, fixed_value=take.text("fixed_value"))]
    regex = take.text("regex")
    if regex:
        return [StatTag(name, _checked(take, regex))]
    known = _defaults(name)
    if not known and name not in _TAGS_OF_ABSENT_STATS:
        raise take.error(
            "tag_name", f"No regex specified for tag specifier and no default regex for name: '{name}'", "give it one"
        )
    return known


def _checked(take: Take, regex: str) -> str:
    """An ECMAScript expression as Python's. Raises ConfigError."""

    def ranges(found: re.Match[str]) -> str:
        return _POSIX_CLASSES.get(found[1], found[0])

    translated = re.sub(r"\[:(\w+):\]", ranges, regex)
    try:
        compiled = re.compile(translated)
    except re.error as error:
        raise take.error("regex", f"Invalid regex '{regex}': {error}") from None
    if not compiled.groups:
        take.ignore("regex", "it has no group, and a tag is what its first group finds")
    return translated


def _take_patterns(take: Take | None, context: Context) -> StatsPatterns:
    if take is None:
        return EVERYTHING
    if take.has("reject_all"):
        return NOTHING if take.flag("reject_all") else EVERYTHING
    include = take.child("inclusion_list")
    chosen = include if include is not None else take.child("exclusion_list")
    if chosen is None:
        return EVERYTHING
    patterns = tuple([take_string_match(one, context) for one in chosen.children("patterns")])
    return StatsPatterns(include is not None, patterns)
