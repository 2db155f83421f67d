"""gRPC services of the bootstrap: how to reach, authenticate and trust the server behind a static cluster.

`envoy_grpc` names a cluster, whose first endpoint and TLS context are what we dial with; `google_grpc` says it in place.
"""

from collections.abc import Mapping
from typing import Any

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.ads.transport import UNIX_PATH_LIMIT_BYTES, GrpcTarget
from mosn_xds.control.bootstrap.model import XdsServer
from mosn_xds.control.translate.common import refuse_version_2
from mosn_xds.control.translate.take import Report, Take
from mosn_xds.xds.messages import unpack

_CREDENTIALS = ("", "envoy.grpc_credentials.default", "envoy.grpc_credentials.file_based_metadata")
_DELTA = (3, 6)
_GRPC = (2, 3, 5, 6)


def take_server(take: Take, clusters: Mapping[str, Any]) -> XdsServer:
    """core.ApiConfigSource over gRPC; `clusters` are the static cluster messages by name. Raises ConfigError."""
    api = take.integer("api_type")
    if api not in _GRPC:
        raise take.error("api_type", "only GRPC and DELTA_GRPC are supported", "REST is not")
    refuse_version_2(take, "transport_api_version")
    services = take.children("grpc_services")
    if len(services) != 1:
        raise take.error(
            "grpc_services", "envoy::config::core::v3::ApiConfigSource must have a single gRPC service specified"
        )
    service = services[0]
    metadata = tuple([(one.text("key").lower(), one.text("value")) for one in service.children("initial_metadata")])
    node_once = take.flag("set_node_on_first_message_only")
    envoy = service.child("envoy_grpc")
    if envoy is not None:
        name = envoy.text("cluster_name")
        if name not in clusters:
            raise envoy.error("cluster_name", f"Unknown gRPC client cluster '{name}'", "it must be a static cluster")
        target = cluster_target(clusters[name], metadata=metadata, authority=envoy.text("authority") or None)
        base_s, max_s = _take_back_off(envoy)
        return XdsServer(target, api in _DELTA, node_once, name, base_s, max_s)
    google = service.child("google_grpc")
    if google is None:
        raise service.error("", "a target is required", "envoy_grpc or google_grpc")
    return XdsServer(_take_google(google, metadata), api in _DELTA, node_once)


def _take_back_off(take: Take) -> tuple[float, float]:
    policy = take.child("retry_policy")
    back_off = None if policy is None else policy.child("retry_back_off")
    if back_off is None:
        return 0.5, 30.0
    base_s = back_off.duration("base_interval") or 0.5
    max_s = back_off.duration("max_interval")
    return base_s, base_s * 10 if max_s is None else max_s


def cluster_target(
    cluster: Any, *, metadata: tuple[tuple[str, str], ...] = (), authority: str | None = None
) -> GrpcTarget:
    """How to dial a cluster message. Raises ConfigError if it has no endpoint that gRPC could."""
    take = Take(cluster, Report())
    endpoint = _first_endpoint(cluster)
    if endpoint is None:
        raise take.error("load_assignment", f"cluster {cluster.name} has no endpoint to connect to")
    target = _target_of(endpoint.address, take)
    timeout_s = take.duration("connect_timeout")
    tls = _tls_of(take)
    return GrpcTarget(
        target,
        authority=authority or (cluster.name if tls is None else None),
        initial_metadata=metadata,
        connect_timeout_s=5.0 if timeout_s is None else timeout_s,
        **(tls or {}),
    )


def _first_endpoint(cluster: Any) -> Any | None:
    for locality in cluster.load_assignment.endpoints:
        for one in locality.lb_endpoints:
            return one.endpoint
    return None


def _target_of(address: Any, take: Take) -> str:
    if address.WhichOneof("address") == "pipe":
        path: str = address.pipe.path
        if len(path.encode()) > UNIX_PATH_LIMIT_BYTES:
            raise take.error("load_assignment", f'Path "{path}" exceeds maximum UNIX domain socket path size of 107.')
        if path.startswith("@"):
            return f"unix-abstract:{path[1:]}"
        return f"unix://{path}" if path.startswith("/") else f"unix:{path}"
    host, port = address.socket_address.address, address.socket_address.port_value
    if not host:
        raise take.error("load_assignment", "the endpoint has no address that gRPC could dial")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tls_of(take: Take) -> dict[str, Any] | None:
    transport = take.child("transport_socket")
    config = None if transport is None else transport.message_of("typed_config")
    if config is None:
        return None
    unpacked = unpack(config)
    if not unpacked.type_name.endswith("UpstreamTlsContext") or unpacked.message is None:
        return None
    context = Take(unpacked.message, take.report, take, "transport_socket.typed_config")
    sni = context.text("sni")
    common = context.child("common_tls_context")
    if common is None:
        return {"tls": True, "server_name": sni or None}
    return {
        "tls": True,
        "server_name": _server_name(common.message, sni),
        "tls_root_path": _root_path(common),
        **_own_certificate(common),
    }


def _validation(common: Any) -> Any:
    if common.HasField("combined_validation_context"):
        return common.combined_validation_context.default_validation_context
    return common.validation_context


def _server_name(common: Any, sni: str) -> str | None:
    for match in _validation(common).match_typed_subject_alt_names:
        if match.matcher.exact:
            exact: str = match.matcher.exact
            return exact
    for match in _validation(common).match_subject_alt_names:
        if match.exact:
            exact = match.exact
            return exact
    return sni or None


def _root_path(common: Take) -> str | None:
    trusted = _validation(common.message).trusted_ca
    return _filename(trusted, common, "validation_context.trusted_ca")


def _own_certificate(common: Take) -> dict[str, str | None]:
    for certificate in common.message.tls_certificates:
        return {
            "tls_certificate_path": _filename(certificate.certificate_chain, common, "tls_certificates[0]"),
            "tls_key_path": _filename(certificate.private_key, common, "tls_certificates[0]"),
        }
    if common.message.tls_certificate_sds_secret_configs:
        raise common.error(
            "tls_certificate_sds_secret_configs", "the server of the configuration cannot wait for a secret from SDS",
            "give files",
        )  # fmt: skip
    return {}


def _filename(source: Any, take: Take, name: str) -> str | None:
    kind = source.WhichOneof("specifier")
    if kind is None:
        return None
    if kind != "filename":
        raise take.error(name, f"{kind} is not supported here", "give filename: it is read at each connect")
    path: str = source.filename
    return path


def _take_google(take: Take, metadata: tuple[tuple[str, str], ...]) -> GrpcTarget:
    uri = take.text("target_uri")
    take.skip("stat_prefix")
    factory = take.text("credentials_factory_name")
    if factory not in _CREDENTIALS:
        raise take.error("credentials_factory_name", f"Unknown google grpc credentials factory name: {factory}")
    channel = take.child("channel_credentials")
    ssl = None if channel is None else channel.child("ssl_credentials")
    tls: dict[str, Any] = {}
    if ssl is not None:
        message = ssl.message
        ssl.left.clear()
        tls = {
            "tls": True,
            "tls_root_path": _filename(message.root_certs, ssl, "root_certs"),
            "tls_certificate_path": _filename(message.cert_chain, ssl, "cert_chain"),
            "tls_key_path": _filename(message.private_key, ssl, "private_key"),
        }
    elif channel is not None:
        if channel.has("google_default"):  # in cleartext, and with a token perhaps, is not what was asked for
            raise channel.error(
                "google_default", "Google's default credentials are not supported", "ssl_credentials are"
            )
        channel.skip("local_credentials")
    token, more = _take_call_credentials(take)
    return GrpcTarget(uri, initial_metadata=(*metadata, *more), **tls, **token)


def _take_call_credentials(take: Take) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
    """The token file with its header, and headers that are known now."""
    token: dict[str, Any] = {}
    headers: list[tuple[str, str]] = []
    for one in take.children("call_credentials"):
        if one.has("access_token"):
            headers.append(("authorization", f"Bearer {one.text('access_token')}"))
            continue
        plugin = one.child("from_plugin")
        config = None if plugin is None else plugin.message_of("typed_config")
        if plugin is None or config is None:
            raise one.error("", "these call credentials are not supported", "access_token and file_based_metadata are")
        plugin.skip("name")
        unpacked = unpack(config)
        if not unpacked.type_name.endswith("FileBasedMetadataConfig") or unpacked.message is None:
            raise plugin.error("typed_config", f"call credentials of type {unpacked.type_name} are not supported")
        file: Any = unpacked.message
        token = {
            "token_path": _filename(file.secret_data, plugin, "typed_config.secret_data"),
            "token_header": file.header_key.lower() or "authorization",
            "token_prefix": file.header_prefix,
        }
    return token, tuple(headers)


def targets(clusters: Mapping[str, Any]) -> dict[str, GrpcTarget]:
    """How gRPC reaches each cluster that it could."""
    found = {}
    for name, cluster in clusters.items():
        try:
            found[name] = cluster_target(cluster)
        except ConfigError:
            continue  # no cluster for gRPC; whoever asks for it is told that it is unknown
    return found
