"""Configuration of the RPC filters (generic_proxy, dubbo_proxy, thrift_proxy) for beds: builders beside those of bed.py.

The access log has the columns of HTTP's, in its order, so that `World.logs` reads it: the tag is a property, the status the
protocol's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.differential.bed import FILE_LOG, Config, config, extension, listener

_NETWORK = "envoy.extensions.filters.network"
GENERIC = f"{_NETWORK}.generic_proxy"
MATCHER = "xds.type.matcher.v3"

GENERIC_OPERATORS = {
    "tag": "%REQUEST_PROPERTY(x-case)%",
    "status": "%GENERIC_RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "route": "%REQUEST_PROPERTY(group)%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "received": "%REQUEST_PROPERTY(version)%",
    "sent": "%REQUEST_PROPERTY(none)%",
    "protocol": "%PROTOCOL%",
    "method": "%METHOD%",
    "path": "%HOST%|%PATH%",
    "attempts": "%UPSTREAM_HOST%",
}
"""What a line holds, by the names that HTTP's columns have: Envoy knows neither sizes nor attempts nor route's names here."""


def generic_log(name: str, operators: Mapping[str, str] = GENERIC_OPERATORS) -> Config:
    """A file access log of generic_proxy."""
    line = "\t".join(operators.values()) + "\n"
    body = {"path": f"${{log}}/{name}.log", "log_format": {"text_format_source": {"inline_string": line}}}
    return {"name": "envoy.access_loggers.file", "typed_config": {"@type": FILE_LOG, **body}}


def generic_router(**fields: Any) -> Config:
    """The terminal filter of generic_proxy."""
    return extension("envoy.filters.generic.router", f"{GENERIC}.router.v3.Router", **fields)


def generic_filter(
    name: str,
    routes: Config | None = None,
    *,
    virtual_hosts: Sequence[Config] = (),
    router: Mapping[str, Any] | None = None,
    codec: Config | None = None,
    **fields: Any,
) -> Config:
    """generic_proxy with Dubbo's codec. `routes` is a Matcher (see `tree`, `rules`)."""
    table: Config = {"name": f"{name}-routes"}
    if routes is not None:
        table["routes"] = routes
    if virtual_hosts:
        table["virtual_hosts"] = list(virtual_hosts)
    dubbo = extension("envoy.generic_proxy.codecs.dubbo", f"{GENERIC}.codecs.dubbo.v3.DubboCodecConfig")
    source = {} if "generic_rds" in fields else {"route_config": table}
    made: Config = {
        "stat_prefix": name,
        "codec_config": codec or dubbo,
        "filters": [generic_router(**(router or {}))],
        "access_log": [generic_log(name)],
        **source,
        **fields,
    }
    return extension("envoy.filters.network.generic_proxy", f"{GENERIC}.v3.GenericProxy", **made)


def generic_listener(name: str, routes: Config | None = None, **fields: Any) -> Config:
    """A listener with one generic_proxy (see `generic_filter`)."""
    return listener(name, generic_filter(name, routes, **fields))


def match_input(kind: str, **fields: Any) -> Config:
    """What a matcher looks at: Service, Host, Path, Method, Property (with `property_name`) or Request."""
    return extension(kind.lower(), f"{GENERIC}.matcher.v3.{kind}MatchInput", **fields)


def to(cluster: str, **fields: Any) -> Config:
    """An OnMatch whose action is a route to the cluster."""
    return act(cluster=cluster, **fields)


def act(**fields: Any) -> Config:
    """An OnMatch whose action is a route with these fields."""
    kind = f"type.googleapis.com/{GENERIC}.action.v3.RouteAction"
    return {"action": {"name": "route", "typed_config": {"@type": kind, **fields}}}


def tree(
    kind: str, choices: Mapping[str, Config], *, prefix: bool = False, otherwise: Config | None = None, **fields: Any
) -> Config:
    """A Matcher with a tree over one input; `fields` are the input's. A choice is an OnMatch, or a matcher."""
    on = {key: value if "action" in value else {"matcher": value} for key, value in choices.items()}
    made: Config = {
        "matcher_tree": {
            "input": match_input(kind, **fields),
            "prefix_match_map" if prefix else "exact_match_map": {"map": on},
        }
    }
    return made if otherwise is None else {**made, "on_no_match": otherwise}


def rules(*pairs: tuple[Config, Config], otherwise: Config | None = None) -> Config:
    """A Matcher with a list of (predicate, OnMatch)."""
    found = [{"predicate": predicate, "on_match": on if "action" in on else {"matcher": on}} for predicate, on in pairs]
    made: Config = {"matcher_list": {"matchers": found}}
    return made if otherwise is None else {**made, "on_no_match": otherwise}


def single(kind: str, value: Config, **fields: Any) -> Config:
    """A predicate: this input, as a StringMatcher says."""
    return {"single_predicate": {"input": match_input(kind, **fields), "value_match": value}}


def whole_request(**fields: Any) -> Config:
    """A predicate over the whole request: `host`, `path`, `method`, `properties`."""
    matcher = extension("request", f"{GENERIC}.matcher.v3.RequestMatcher", **fields)
    return {"single_predicate": {"input": match_input("Request"), "custom_match": matcher}}


def generic_host(name: str, hosts: Sequence[str], routes: Config) -> Config:
    """A virtual host of generic_proxy."""
    return {"name": name, "hosts": list(hosts), "routes": routes}


def dubbo_proxy(name: str, *tables: Config, **fields: Any) -> Config:
    """dubbo_proxy; a table is a RouteConfiguration of its own (see `interface`)."""
    routes = {"multiple_route_config": {"name": f"{name}-routes", "route_config": list(tables)}}
    made: Config = {"stat_prefix": name, **({} if "route_config" in fields else routes), **fields}
    return extension("envoy.filters.network.dubbo_proxy", f"{_NETWORK}.dubbo_proxy.v3.DubboProxy", **made)


def dubbo_listener(name: str, *tables: Config, **fields: Any) -> Config:
    """A listener with one dubbo_proxy."""
    return listener(name, dubbo_proxy(name, *tables, **fields))


def interface(name: str, routes: Sequence[Config] | str, **fields: Any) -> Config:
    """A RouteConfiguration of dubbo_proxy: one interface, with `group` and `version`; routes may be YAML text."""
    found = config(routes) if isinstance(routes, str) else list(routes)
    return {"name": f"{name}-table", "interface": name, "routes": found, **fields}


def thrift_proxy(name: str, routes: Sequence[Config] | str, **fields: Any) -> Config:
    """thrift_proxy; routes may be YAML text."""
    found = config(routes) if isinstance(routes, str) else list(routes)
    made: Config = {
        "stat_prefix": name,
        "route_config": {"name": f"{name}-routes", "routes": found, "validate_clusters": False},
        **fields,
    }
    return extension("envoy.filters.network.thrift_proxy", f"{_NETWORK}.thrift_proxy.v3.ThriftProxy", **made)


def thrift_listener(name: str, routes: Sequence[Config] | str, **fields: Any) -> Config:
    """A listener with one thrift_proxy."""
    return listener(name, thrift_proxy(name, routes, **fields))
