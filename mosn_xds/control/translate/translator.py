"""From the bytes of a resource to what this proxy makes of it: the one door to this package."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from google.protobuf.message import Message

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.cluster import ENDPOINTS_URL, take_cluster
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.dubbo_proxy import DUBBO_ROUTES_URL, take_dubbo_route_table
from mosn_xds.control.translate.endpoint import take_endpoints
from mosn_xds.control.translate.generic_routes import GENERIC_ROUTES_URL, take_generic_route_table
from mosn_xds.control.translate.hcm import ROUTES_URL
from mosn_xds.control.translate.listener import take_listener
from mosn_xds.control.translate.model import DnsDiscovery, NodeContext, Options, Spec, Translated
from mosn_xds.control.translate.registry import Registry
from mosn_xds.control.translate.route import take_route_table
from mosn_xds.control.translate.rpc_effects import without_effect
from mosn_xds.control.translate.secret import take_secret
from mosn_xds.control.translate.take import Report, Take, unknown_field_paths
from mosn_xds.control.translate.thrift_proxy import THRIFT_ROUTES_URL, take_thrift_route_table
from mosn_xds.control.translate.tls import SECRETS_URL
from mosn_xds.spec.cluster import Endpoints
from mosn_xds.spec.rpc import RpcProxy, RpcRouteTable
from mosn_xds.xds.messages import TYPE_PREFIX, decode, message_class

CLUSTERS_URL = f"{TYPE_PREFIX}envoy.config.cluster.v3.Cluster"
LISTENERS_URL = f"{TYPE_PREFIX}envoy.config.listener.v3.Listener"


class _Made(NamedTuple):
    spec: Spec
    extra: tuple[Endpoints, ...] = ()
    dns: DnsDiscovery | None = None


class _Kind(NamedTuple):
    """How to translate a type, and the numbers of its fields that are validated as parts."""

    make: Callable[[Take, Context], _Made]
    parts: frozenset[int]


def _make_cluster(take: Take, context: Context) -> _Made:
    parts = take_cluster(take, context)
    return _Made(parts.cluster, () if parts.endpoints is None else (parts.endpoints,), parts.dns)


_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        CLUSTERS_URL: _Kind(_make_cluster, frozenset()),
        ENDPOINTS_URL: _Kind(lambda take, context: _Made(take_endpoints(take, context)), frozenset({2})),
        ROUTES_URL: _Kind(lambda take, context: _Made(take_route_table(take, context)), frozenset({2})),
        GENERIC_ROUTES_URL: _Kind(lambda take, context: _Made(take_generic_route_table(take, context)), frozenset()),
        DUBBO_ROUTES_URL: _Kind(lambda take, context: _Made(take_dubbo_route_table(take, context)), frozenset()),
        THRIFT_ROUTES_URL: _Kind(lambda take, context: _Made(take_thrift_route_table(take, context)), frozenset()),
        LISTENERS_URL: _Kind(lambda take, context: _Made(take_listener(take, context)), frozenset({3, 25})),
        SECRETS_URL: _Kind(lambda take, context: _Made(take_secret(take, context)), frozenset()),
    }
)


class Translator:
    """Translates clusters, endpoints, route tables, listeners and secrets for one node.

    It remembers parts of what it translated by their bytes, so that an update costs what changed in it.
    """

    def __init__(self, node: NodeContext, options: Options | None = None, registry: Registry | None = None) -> None:
        self._context = Context(node, options or Options(), registry or Registry())

    def __repr__(self) -> str:
        return f"<Translator {self._context!r}>"

    def translate(self, type_url: str, name: str | None, raw: bytes) -> Translated:
        """What `raw`, a serialised resource of type `type_url`, says. `name` is the one that the transport gave it; the
        resource's own wins.

        Raises `ConfigError` with a field path and Envoy's text where the resource is not acceptable.
        """
        found = message_class(type_url) if type_url in _KINDS else None
        if found is None:
            raise ConfigError(f"resources of type {type_url} are not supported")
        return self._translate(type_url, name, decode(found, raw), raw)

    def translate_message(self, type_url: str, message: Message) -> Translated:
        """The same for a message at hand (static resources)."""
        return self._translate(type_url, None, message, message.SerializeToString())

    def without_effect(self, proxy: RpcProxy, table: RpcRouteTable) -> list[str]:
        """What `table`, which came on its own, asks in vain of the protocols of `proxy`."""
        return without_effect(proxy, table, self._context.registry)

    def _translate(self, type_url: str, name: str | None, message: Message, raw: bytes) -> Translated:
        kind = _KINDS[type_url]
        context = self._context
        report = Report()
        unknown = unknown_field_paths(message, raw)
        context.validator.validate(message, without=kind.parts)
        take = Take(message, report)
        for path in unknown:
            context.found_unknown(take, path)
        made = kind.make(take, context)
        report.finish()
        return Translated(
            made.spec.name or name or "",
            made.spec,
            (*made.extra, *report.secrets.values()),
            made.dns,
            tuple(report.needs),
            tuple(report.clusters),
            tuple(report.unread),
            tuple(report.warnings),
            tuple(report.files),
        )
