"""`/config_dump`: every resource in use, in warming, draining or refused (envoy.admin.v3.ConfigDump).

The sections stand in Envoy's order. Beside Envoy's shape each entry may hold ``unread``: field paths of that resource
that have no effect here, and ``warnings``; and refused routes and endpoints, which Envoy shows nowhere, have an
`error_state` like listeners do.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from mosn_xds.admin.proto_json import any_to_dict, to_dict
from mosn_xds.admin.view import AgentView, ResourceView, StaticView

PREFIX = "type.googleapis.com/"
CLUSTER = PREFIX + "envoy.config.cluster.v3.Cluster"
LISTENER = PREFIX + "envoy.config.listener.v3.Listener"
ROUTES = PREFIX + "envoy.config.route.v3.RouteConfiguration"
RPC_ROUTES = tuple(
    f"{PREFIX}envoy.extensions.filters.network.{name}"
    for name in (
        "generic_proxy.v3.RouteConfiguration",
        "dubbo_proxy.v3.MultipleRouteConfiguration",
        "thrift_proxy.v3.RouteConfiguration",
    )
)
"""Route tables of RPC proxies stand among HTTP's."""
ENDPOINTS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
SECRET = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"

_ADMIN = PREFIX + "envoy.admin.v3."


def timestamp(seconds: float | None) -> str:
    """RFC 3339 with milliseconds; the epoch for "never"."""
    return datetime.fromtimestamp(seconds or 0, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class ConfigDump:
    """Builds the page from the agent's view."""

    def __init__(self, agent: AgentView) -> None:
        self._agent = agent

    def whole(self, *, include_eds: bool, name_pattern: Any = None) -> dict[str, Any]:
        """All sections; `name_pattern` (a compiled expression) keeps the entries whose name it finds."""
        sections = [
            self._bootstrap(),
            self._clusters(name_pattern),
            *([self._endpoints(name_pattern)] if include_eds else []),
            self._listeners(name_pattern),
            {"@type": _ADMIN + "ScopedRoutesConfigDump"},
            self._routes(name_pattern),
            self._secrets(name_pattern),
        ]
        return {"configs": sections}

    def resource(self, field: str, *, include_eds: bool) -> list[Any] | None:
        """`?resource=dynamic_listeners`: the entries of one repeated field; None if no section has it."""
        known = False
        for section in self.whole(include_eds=include_eds)["configs"]:
            kind = section["@type"].rpartition(".")[2]
            if field in _FIELDS.get(kind, ()):
                known = True
                entries = section.get(field)
                if entries:
                    return [{"@type": _ADMIN + _ENTRY_TYPES[field], **entry} for entry in entries]
        return [] if known else None

    def _bootstrap(self) -> dict[str, Any]:
        return {
            "@type": _ADMIN + "BootstrapConfigDump",
            "bootstrap": to_dict(self._agent.bootstrap),
            "last_updated": timestamp(self._agent.started_at),
        }

    def _static(self, type_url: str, key: str, pattern: Any) -> list[dict[str, Any]]:
        entries = []
        for static in self._agent.static_resources(type_url):
            if pattern is not None and not pattern.search(getattr(static.message, "name", "")):
                continue
            entries.append(self._static_entry(static, type_url, key))
        return entries

    def _static_entry(self, static: StaticView, type_url: str, key: str) -> dict[str, Any]:
        entry: dict[str, Any] = {
            key: {"@type": type_url, **to_dict(static.message)},
            "last_updated": timestamp(self._agent.started_at),
        }
        _add_reports(entry, static.unread, static.warnings)
        return entry

    def _dynamic(self, type_url: str, pattern: Any) -> Iterable[ResourceView]:
        for view in self._agent.resources(type_url):
            if pattern is None or pattern.search(view.name):
                yield view

    def _clusters(self, pattern: Any) -> dict[str, Any]:
        section: dict[str, Any] = {"@type": _ADMIN + "ClustersConfigDump"}
        _add(section, "version_info", self._version(CLUSTER))
        _add(section, "static_clusters", self._static(CLUSTER, "cluster", pattern))
        active: list[Any] = []
        warming: list[Any] = []
        for view in self._dynamic(CLUSTER, pattern):
            entry = _entry(view, "cluster", CLUSTER)
            if entry is not None:
                (warming if view.warming else active).append(entry)
        _add(section, "dynamic_active_clusters", active)
        _add(section, "dynamic_warming_clusters", warming)
        return section

    def _listeners(self, pattern: Any) -> dict[str, Any]:
        section: dict[str, Any] = {"@type": _ADMIN + "ListenersConfigDump"}
        _add(section, "version_info", self._version(LISTENER))
        _add(section, "static_listeners", self._static(LISTENER, "listener", pattern))
        dynamic = []
        for view in self._dynamic(LISTENER, pattern):
            entry: dict[str, Any] = {"name": view.name}
            state = _entry(view, "listener", LISTENER)
            if state is not None:
                state.pop("error_state", None)
                entry["warming_state" if view.warming else "active_state"] = state
                for key in ("unread", "warnings"):
                    if key in state:
                        entry[key] = state.pop(key)
            error = _error_state(view, LISTENER)
            if error is not None:
                entry["error_state"] = error
            dynamic.append(entry)
        for name, raw, since in self._agent.draining_listeners():
            state = {"listener": any_to_dict(LISTENER, raw), "last_updated": timestamp(since)}
            dynamic.append({"name": name, "draining_state": state})
        _add(section, "dynamic_listeners", dynamic)
        return section

    def _routes(self, pattern: Any) -> dict[str, Any]:
        section: dict[str, Any] = {"@type": _ADMIN + "RoutesConfigDump"}
        inline: list[Any] = []
        dynamic: list[Any] = []
        for url in (ROUTES, *RPC_ROUTES):
            inline += [self._static_entry(one, url, "route_config") for one in self._agent.static_resources(url)]
            views = self._dynamic(url, pattern)
            dynamic += [entry for view in views if (entry := _entry(view, "route_config", url))]
        _add(section, "static_route_configs", inline)
        _add(section, "dynamic_route_configs", dynamic)
        return section

    def _endpoints(self, pattern: Any) -> dict[str, Any]:
        section: dict[str, Any] = {"@type": _ADMIN + "EndpointsConfigDump"}
        _add(section, "static_endpoint_configs", self._static(ENDPOINTS, "endpoint_config", pattern))
        dynamic = []
        for view in self._dynamic(ENDPOINTS, pattern):
            entry = _entry(view, "endpoint_config", ENDPOINTS)
            if entry is not None:
                dynamic.append(entry)
        _add(section, "dynamic_endpoint_configs", dynamic)
        return section

    def _secrets(self, pattern: Any) -> dict[str, Any]:
        """Private keys are redacted; one that is awaited is there by its name."""
        section: dict[str, Any] = {"@type": _ADMIN + "SecretsConfigDump"}
        static = [{"name": one["secret"].get("name", ""), **one} for one in self._static(SECRET, "secret", pattern)]
        _add(section, "static_secrets", static)
        active: list[Any] = []
        warming: list[Any] = []
        for view in self._dynamic(SECRET, pattern):
            entry = _entry(view, "secret", SECRET) or {}
            if view.raw is None:
                awaited = {"@type": SECRET, "name": view.name}
                entry = {"version_info": "uninitialized", "last_updated": timestamp(0), "secret": awaited, **entry}
            (warming if view.raw is None else active).append({"name": view.name, **entry})
        _add(section, "dynamic_active_secrets", active)
        _add(section, "dynamic_warming_secrets", warming)
        return section

    def _version(self, type_url: str) -> str:
        return next((view.good_version for view in self._agent.resources(type_url) if view.good_version), "")


def _entry(view: ResourceView, key: str, type_url: str) -> dict[str, Any] | None:
    error = _error_state(view, type_url)
    if view.raw is None and error is None:
        return None
    entry: dict[str, Any] = {}
    if view.raw is not None:
        _add(entry, "version_info", view.good_version)
        entry[key] = any_to_dict(type_url, view.raw)
        entry["last_updated"] = timestamp(view.good_at)
    if error is not None:
        entry["error_state"] = error
    _add_reports(entry, view.unread, view.warnings)
    return entry


def _error_state(view: ResourceView, type_url: str) -> dict[str, Any] | None:
    if not view.refusal_reason:
        return None
    state: dict[str, Any] = {}
    if view.refusal_raw is not None:
        state["failed_configuration"] = any_to_dict(type_url, view.refusal_raw)
    state["last_update_attempt"] = timestamp(view.refusal_at)
    state["details"] = view.refusal_reason
    _add(state, "version_info", view.refusal_version)
    return state


def _add(into: dict[str, Any], key: str, value: Any) -> None:
    """Empty lists and strings are left out, as in proto JSON."""
    if value:
        into[key] = value


def _add_reports(entry: dict[str, Any], unread: tuple[str, ...], warnings: tuple[str, ...]) -> None:
    _add(entry, "unread", list(unread))
    _add(entry, "warnings", list(warnings))


_ENTRY_TYPES = {
    "static_clusters": "ClustersConfigDump.StaticCluster",
    "dynamic_active_clusters": "ClustersConfigDump.DynamicCluster",
    "dynamic_warming_clusters": "ClustersConfigDump.DynamicCluster",
    "static_listeners": "ListenersConfigDump.StaticListener",
    "dynamic_listeners": "ListenersConfigDump.DynamicListener",
    "static_route_configs": "RoutesConfigDump.StaticRouteConfig",
    "dynamic_route_configs": "RoutesConfigDump.DynamicRouteConfig",
    "static_endpoint_configs": "EndpointsConfigDump.StaticEndpointConfig",
    "dynamic_endpoint_configs": "EndpointsConfigDump.DynamicEndpointConfig",
    "static_secrets": "SecretsConfigDump.StaticSecret",
    "dynamic_active_secrets": "SecretsConfigDump.DynamicSecret",
    "dynamic_warming_secrets": "SecretsConfigDump.DynamicSecret",
}
_FIELDS = {
    "ClustersConfigDump": ("static_clusters", "dynamic_active_clusters", "dynamic_warming_clusters"),
    "ListenersConfigDump": ("static_listeners", "dynamic_listeners"),
    "RoutesConfigDump": ("static_route_configs", "dynamic_route_configs"),
    "EndpointsConfigDump": ("static_endpoint_configs", "dynamic_endpoint_configs"),
    "SecretsConfigDump": ("static_secrets", "dynamic_active_secrets", "dynamic_warming_secrets"),
}
