"""Reads a bootstrap whole: one call, one value, or one error that says where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.bootstrap.grpc_service import take_server, targets
from mosn_xds.control.bootstrap.model import (
    Admin,
    Bootstrap,
    DynamicRoot,
    StaticResource,
    XdsServer,
)
from mosn_xds.control.bootstrap.reading import read_message
from mosn_xds.control.bootstrap.runtime import Runtime
from mosn_xds.control.bootstrap.secrets import redact
from mosn_xds.control.bootstrap.stats import take_stats
from mosn_xds.control.translate.common import struct_dict, take_address, take_source
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.model import NodeContext, Options, SecretKind, SourceKind
from mosn_xds.control.translate.registry import Registry
from mosn_xds.control.translate.secret import kind_of
from mosn_xds.control.translate.sniffed import sniffed_protocols
from mosn_xds.control.translate.take import Report, Take
from mosn_xds.control.translate.tls import SECRETS_URL
from mosn_xds.control.translate.translator import CLUSTERS_URL, LISTENERS_URL, Translator
from mosn_xds.control.translate.validate import Validator
from mosn_xds.spec.tls import Secret

USER_AGENT = "mosn-xds"


@dataclass(frozen=True, slots=True)
class NodeOverrides:
    """What the command line says about the node: it wins over the file where it is not empty."""

    id: str = ""
    cluster: str = ""
    zone: str = ""


def load_bootstrap(
    path: Path | None,
    config_yaml: str = "",
    *,
    overrides: NodeOverrides | None = None,
    allow_unknown_fields: bool = False,
    universal_tags: Sequence[tuple[str, str]] = (),
    registry: Registry | None = None,
) -> Bootstrap:
    """Read the Envoy bootstrap at `path`, with `config_yaml` merged over it, and translate its static resources.

    Raises `ConfigError` with one line: the file, the field path, Envoy's text where it has one, and a hint. Fields that
    the protos do not have are an error unless `allow_unknown_fields`, which makes them warnings. `universal_tags` (name,
    value) are those that the command line gives to all statistics.
    """
    message, unknown = read_message(path, config_yaml)
    place = str(path) if path is not None else "--config-yaml"
    try:
        if unknown and not allow_unknown_fields:
            raise ConfigError(
                f"no such field: {unknown[0]}",
                path=unknown[0],
                hint="--allow-unknown-static-fields to go on without it",
            )
        Validator().validate(message)
        loading = _Loading(message, unknown, overrides or NodeOverrides(), universal_tags, registry or Registry())
        return loading.run()
    except ConfigError as error:
        at = f"{place}: {error.path}" if error.path else place
        raise ConfigError(error.reason, path=at, hint=error.hint) from None


class _Loading:
    """One bootstrap on its way."""

    def __init__(
        self,
        message: Message,
        unknown: tuple[str, ...],
        overrides: NodeOverrides,
        universal_tags: Sequence[tuple[str, str]],
        registry: Registry,
    ) -> None:
        self.report = Report()
        self.report.warnings += [f"{path}: no such field" for path in unknown]
        self.report.unread += unknown
        self.take = Take(message, self.report)
        self.message: Any = message
        self.overrides = overrides
        self.universal_tags = universal_tags
        self.registry = registry

    def run(self) -> Bootstrap:
        take = self.take
        node, node_message = self._node()
        self.report.warnings += sniffed_protocols(node, self.registry).complaints
        runtime = self._runtime()
        static = take.child("static_resources")
        clusters: tuple[StaticResource, ...] = ()
        listeners: tuple[StaticResource, ...] = ()
        by_name: dict[str, Any] = {}
        secrets: tuple[Secret, ...] = ()
        if static is not None:
            secrets = self._secrets(static, node, runtime)
            clusters, by_name = self._clusters(static, node, runtime, secrets)
            listeners = self._listeners(static, node, runtime, secrets, frozenset(by_name))
        ads, lds, cds = self._dynamic(by_name)
        self._refuse_anonymous(node, [*clusters, *listeners])
        stats = take_stats(take, Context(node, Options(runtime=runtime), self.registry), self.universal_tags)
        admin = self._admin()
        for name, why in _WITHOUT_EFFECT.items():
            if take.has(name):
                take.ignore(name, why)
        self.report.finish()
        return Bootstrap(
            node=node,
            node_message=node_message,
            message=redact(self.message),
            clusters=clusters,
            listeners=listeners,
            secrets=secrets,
            ads=ads,
            lds=lds,
            cds=cds,
            admin=admin,
            stats=stats,
            runtime=runtime,
            targets=MappingProxyType(targets(by_name)),
            unread=tuple(self.report.unread),
            warnings=tuple(self.report.warnings),
        )

    def _node(self) -> tuple[NodeContext, Message]:
        take = self.take.child("node")
        if take is not None:
            take.left.clear()  # it goes to the server as it is
        node = self.message.node
        if self.overrides.id:
            node.id = self.overrides.id
        if self.overrides.cluster:
            node.cluster = self.overrides.cluster
        if self.overrides.zone:
            node.locality.zone = self.overrides.zone
        if not node.user_agent_name:
            node.user_agent_name = USER_AGENT
        place = node.locality
        metadata = MappingProxyType(struct_dict(node.metadata))
        context = NodeContext(node.id, node.cluster, place.region, place.zone, place.sub_zone, metadata)
        return context, node

    def _runtime(self) -> Runtime:
        found: dict[str, Any] = {}
        layered = self.take.child("layered_runtime")
        for layer in layered.children("layers") if layered is not None else ():
            name = layer.text("name")
            struct = layer.message_of("static_layer")
            if struct is not None:
                found.update(_flatten(struct_dict(struct)))
            for kind in ("disk_layer", "rtds_layer"):
                if layer.has(kind):
                    layer.ignore(kind, f"runtime layer {name!r} stays empty")
            layer.ignore_given(admin_layer="there is no /runtime_modify")
        return Runtime(found)

    def _translator(
        self,
        node: NodeContext,
        runtime: Mapping[str, Any],
        secrets: tuple[Secret, ...] = (),
        clusters: frozenset[str] | None = None,
    ) -> Translator:
        options = Options(static=True, runtime=runtime, known_clusters=clusters, secrets=secrets)
        return Translator(node, options, self.registry)

    def _secrets(self, static: Take, node: NodeContext, runtime: Mapping[str, Any]) -> tuple[Secret, ...]:
        messages = list(static.messages("secrets"))
        made = self._translate(static, "secrets", SECRETS_URL, messages, self._translator(node, runtime))
        found: dict[tuple[SecretKind, str], Secret] = {}
        for number, resource in enumerate(made):
            secret = resource.translated.spec
            if isinstance(secret, Secret):
                kind = kind_of(secret)
                if (kind, secret.name) in found:
                    raise static.error(
                        f"secrets[{number}].name", f"Duplicate static {_SECRET_NOUNS[kind]} secret name {secret.name}"
                    )
                found[kind, secret.name] = secret
        return tuple(found.values())

    def _clusters(
        self, static: Take, node: NodeContext, runtime: Mapping[str, Any], secrets: tuple[Secret, ...]
    ) -> tuple[tuple[StaticResource, ...], dict[str, Any]]:
        messages = list(static.messages("clusters"))
        by_name: dict[str, Any] = {}
        for number, message in enumerate(messages):
            if message.name in by_name:
                raise static.error(f"clusters[{number}].name", f"cluster manager: duplicate cluster '{message.name}'")
            by_name[message.name] = message
        translator = self._translator(node, runtime, secrets)
        return self._translate(static, "clusters", CLUSTERS_URL, messages, translator), by_name

    def _listeners(
        self,
        static: Take,
        node: NodeContext,
        runtime: Mapping[str, Any],
        secrets: tuple[Secret, ...],
        clusters: frozenset[str],
    ) -> tuple[StaticResource, ...]:
        messages = list(static.messages("listeners"))
        has_cds = self.message.dynamic_resources.HasField("cds_config")
        translator = self._translator(node, runtime, secrets, None if has_cds else clusters)
        found = self._translate(static, "listeners", LISTENERS_URL, messages, translator)
        kept: dict[str, StaticResource] = {}
        for number, resource in enumerate(found):
            name = resource.translated.name
            if name in kept:  # as in Envoy: the first one stays
                self.report.warnings.append(
                    f"{static.path(f'listeners[{number}]')}: duplicate listener {name}, left out"
                )
            kept.setdefault(name, resource)
        return tuple(kept.values())

    def _translate(
        self, static: Take, field: str, type_url: str, messages: list[Message], translator: Translator
    ) -> tuple[StaticResource, ...]:
        found = []
        for number, message in enumerate(messages):
            where = static.path(f"{field}[{number}]")
            try:
                translated = translator.translate_message(type_url, message)
            except ConfigError as error:
                raise error.under(where) from None
            part = Report()
            part.unread += translated.unread
            part.warnings += translated.warnings
            self.report.merge(part, where)
            found.append(StaticResource(type_url, message.SerializeToString(), translated))
        return tuple(found)

    def _dynamic(self, clusters: Mapping[str, Any]) -> tuple[XdsServer | None, DynamicRoot | None, DynamicRoot | None]:
        take = self.take.child("dynamic_resources")
        if take is None:
            return None, None, None
        config = take.child("ads_config")
        ads = None if config is None else take_server(config, clusters)
        lds, cds = (self._root(take, name, clusters) for name in ("lds_config", "cds_config"))
        for name, root in (("lds_config", lds), ("cds_config", cds)):
            if root is not None and root.source.kind is SourceKind.ADS and ads is None:
                raise take.error(
                    name, "ads is asked for, and there is no ads_config", "add dynamic_resources.ads_config"
                )
        return ads, lds, cds

    def _refuse_anonymous(self, node: NodeContext, static: list[StaticResource]) -> None:
        """Whoever asks for configuration must say who it is."""
        asks = self.message.HasField("dynamic_resources") or any(one.translated.needs for one in static)
        if asks and (not node.id or not node.cluster):
            raise ConfigError(
                "node 'id' and 'cluster' are required. Set it either in 'node' config or via --service-node and "
                "--service-cluster options.",
                path="node",
            )

    def _root(self, take: Take, name: str, clusters: Mapping[str, Any]) -> DynamicRoot | None:
        message = take.left.get(name)
        config = take.child(name)
        if config is None or message is None:
            return None
        server = None
        if message.WhichOneof("config_source_specifier") == "api_config_source":
            aside = Take(message.api_config_source, self.report, config, "api_config_source")
            server = take_server(aside, clusters)
        source, timeout_s = take_source(config)
        return DynamicRoot(source, timeout_s, server)

    def _admin(self) -> Admin:
        take = self.take.child("admin")
        if take is None:
            return Admin()
        for one in take.children("access_log"):
            log = one.message_of("typed_config")
            if log is None or _NOWHERE not in log.value:
                one.ignore("typed_config", "what is asked of the admin API is not logged")
            one.skip("name")
        if take.text("access_log_path") not in ("", _NOWHERE.decode()):
            take.ignore("access_log_path", "what is asked of the admin API is not logged")
        take.ignore_given(profile_path="nothing is profiled")
        return Admin(take_address(take, "address") if take.has("address") else None)


_SECRET_NOUNS = {
    SecretKind.CERTIFICATE: "TlsCertificate",
    SecretKind.VALIDATION: "CertificateValidationContext",
    SecretKind.TICKET_KEYS: "TlsSessionTicketKeys",
}

_NOWHERE = b"/dev/null"
"""Where Istio's admin access log goes."""

_WITHOUT_EFFECT = {
    "overload_manager": "there is no overload manager",
    "application_log_config": "the log has its own format; see --log-format",
    "bootstrap_extensions": "no bootstrap extension is known",
}


def _flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Runtime keys: nested maps are joined by dots, but for a FractionalPercent, which is a value."""
    found: dict[str, Any] = {}
    for key, value in fields.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and not {"numerator", "denominator"} & value.keys():
            found.update(_flatten(value, f"{name}."))
        else:
            found[name] = value
    return found
