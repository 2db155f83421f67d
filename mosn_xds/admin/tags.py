"""Tags: which part of a stat's name is a label (Envoy's `stats_config.stats_tags` and its default extractors).

A tag is a regular expression over the full name: its first group is cut out of the name, its second (or the first, if
there is one only) is the value. Prometheus groups by what is left.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

_DEFAULTS: tuple[tuple[str, str], ...] = (
    ("envoy.response_code", r"_rq(_(\d{3}))$"),
    ("envoy.response_code_class", r"_rq_?((\d))xx$"),
    ("envoy.cluster_name", r"^cluster\.(([^.]+)\.)"),
    ("envoy.http_conn_manager_prefix", r"^listener\..*?\.http\.((.+?)\.)downstream_"),
    (
        "envoy.http_conn_manager_prefix",
        r"^http\.((.+?)\.)(?:downstream_|no_|rq|rs_|tracing|rds|fault|cors|rbac|user_agent)",
    ),
    ("envoy.http_conn_manager_prefix", r"^http\.(([^.]+)\.)"),
    ("envoy.tcp_prefix", r"^tcp\.((.+?)\.)(?:downstream_|idle|max_|upstream_|on_demand)"),
    ("envoy.worker_id", r"^(?:listener\..*?\.|listener_manager\.|server\.)(worker_(\d+)\.)"),
    ("envoy.listener_address", r"^listener\.(((?:[_.\d]+|[_\[\]a-fA-F\d]+))\.)(?=[a-z])"),
    ("envoy.listener_address", r"^listener\.(([^.]+)\.)"),
    ("envoy.virtual_host", r"^vhost\.(([^.]+)\.)"),
    ("envoy.virtual_cluster", r"^vhost\.(?:[^.]+\.)?vcluster\.(([^.]+)\.)"),
    ("envoy.route", r"^vhost\.(?:[^.]+\.)?route\.(([^.]+)\.)"),
    ("envoy.rds_route_config", r"^http\..*?rds\.((.+?)\.)(?:config_reload|init_fetch|update_|version)"),
)

_UNSAFE = re.compile(r"[^a-zA-Z0-9_]")


class TagExtractor:
    """Splits stat names into the name without tags and the tags. Results are cached: names repeat for ever."""

    def __init__(self, configured: Sequence[tuple[str, str]] = (), fixed: Sequence[tuple[str, str]] = ()) -> None:
        """`configured` tags (name, RE2 expression) go before the defaults; `fixed` ones (name, value) are on every stat.

        Raises re.error for an expression that is none.
        """
        self._rules = [(name, re.compile(pattern)) for name, pattern in (*configured, *_DEFAULTS)]
        self._fixed = tuple(fixed)
        self.split = lru_cache(maxsize=200_000)(self._split)

    def _split(self, name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        """(name without tags, ((tag, value), ...))."""
        tags: dict[str, str] = dict(self._fixed)
        cuts: list[tuple[int, int]] = []
        for tag, pattern in self._rules:
            if tag in tags:
                continue
            found = pattern.search(name)
            if found is None:
                continue
            groups = pattern.groups
            cut = found.span(1)
            if any(cut[0] < end and start < cut[1] for start, end in cuts):
                continue
            tags[tag] = found.group(2 if groups >= 2 else 1)
            cuts.append(cut)
        rest = name
        for start, end in sorted(cuts, reverse=True):
            rest = rest[:start] + rest[end:]
        return rest, tuple(tags.items())


def sanitize(name: str) -> str:
    """A Prometheus name: everything else becomes an underscore."""
    return _UNSAFE.sub("_", name)


def escape(value: str) -> str:
    """A label's value inside its quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
