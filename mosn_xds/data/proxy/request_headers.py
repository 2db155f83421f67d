"""What the HTTP connection manager does to a request head before anybody looks at it.

The order is Envoy's (conn_manager_impl.cc and conn_manager_utility.cc, `decodeHeaders` and `mutateRequestHeaders`): sanity
of host and path, path normalisation, ports and dots of the host, hop-by-hop headers, who the client is
(x-forwarded-for), internal or external, what an external client may not say, via, x-request-id. Envoy's documents:
"HTTP header manipulation" and "x-forwarded-for".

The common request carries none of the headers treated here: an index of the names that are there finds out, and the rest is
skipped.
"""

import ipaddress
from collections.abc import Mapping
from typing import Final

from mosn_xds.base.chance import Random
from mosn_xds.data.codec.head import RequestHead, Version
from mosn_xds.data.filters.api import Reply
from mosn_xds.data.match.cidr import CidrSet
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.data.proxy.client_cert import ClientCertHeader
from mosn_xds.data.proxy.path import PathPolicy
from mosn_xds.spec.common import Address
from mosn_xds.spec.listener import HttpConnectionManager

_HOP_BY_HOP: Final = frozenset((b"x-envoy-internal", b"keep-alive", b"proxy-connection", b"transfer-encoding"))
_CONNECTION: Final = frozenset((b"connection", b"upgrade"))

EXTERNAL_FORBIDDEN: Final = frozenset(
    b"x-envoy-" + name
    for name in (
        b"retriable-status-codes",
        b"retriable-header-names",
        b"retry-on",
        b"retry-grpc-on",
        b"max-retries",
        b"upstream-alt-stat-name",
        b"upstream-rq-timeout-ms",
        b"upstream-rq-per-try-timeout-ms",
        b"upstream-rq-timeout-alt-response",
        b"expected-rq-timeout-ms",
        b"force-trace",
        b"ip-tags",
        b"original-url",
        b"hedge-on-per-try-timeout",
    )
)
"""What only an internal client may ask for."""

_EDGE_FORBIDDEN: Final = frozenset(
    b"x-envoy-" + name
    for name in (
        b"decorator-operation",
        b"downstream-service-cluster",
        b"downstream-service-node",
        b"original-path",
        b"original-host",
    )
)

_XFF: Final = b"x-forwarded-for"
_XFP: Final = b"x-forwarded-proto"
_REQUEST_ID: Final = b"x-request-id"

_NOTICED: Final = (
    _HOP_BY_HOP
    | _CONNECTION
    | EXTERNAL_FORBIDDEN
    | _EDGE_FORBIDDEN
    | {
        _XFF,
        _XFP,
        _REQUEST_ID,
        b"te",
        b"referer",
        b"x-forwarded-client-cert",
        b"x-forwarded-port",
        b"via",
        b"user-agent",
        b"x-envoy-external-address",
        b"early-data",
    }
)

_TREATED_ALWAYS: Final = (
    _NOTICED - _EDGE_FORBIDDEN - {b"user-agent", b"via", b"x-forwarded-port", b"x-envoy-external-address"}
)
"""What is treated even where nothing is configured (`RequestHeaders._plain`); most clients send a user agent."""
_TREATED_BUT_TE: Final = _TREATED_ALWAYS - {b"te"}
_HTTP2: Final[Version] = Version.HTTP2

_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The two bits that every UUID of RFC 9562 has alike, put into a random digit."""

_INVALID_HOST: Final = Reply(400, details="missing_host_header")
_MISSING_PATH: Final = Reply(404, details="missing_path_rejected")
_QUERY_WITHOUT_TYPE: Final = Reply(400, details="query_missing_content_type")
_RELATIVE_PATH: Final = Reply(404, details="absolute_path_rejected")


class RequestHeaders:
    """One connection manager's treatment of request heads; `prepare` is called once per request."""

    __slots__ = (
        "_append_port",
        "_client_cert",
        "_edge",
        "_generate_id",
        "_hops",
        "_internal",
        "_keep_external_id",
        "_local_ip",
        "_node",
        "_paths",
        "_plain",
        "_random",
        "_scheme",
        "_service",
        "_skip_xff",
        "_strip_any_port",
        "_strip_dot",
        "_strip_port",
        "_strips_host",
        "_unix_internal",
        "_via",
    )

    def __init__(
        self, spec: HttpConnectionManager, *, node_id: str, service_cluster: str, local_ip: str, random: Random
    ) -> None:
        self._random = random
        self._edge = spec.use_remote_address
        self._hops = spec.xff_num_trusted_hops
        self._skip_xff = spec.skip_xff_append
        self._internal = CidrSet(spec.internal_cidrs)
        self._unix_internal = spec.internal_unix_sockets
        self._generate_id = spec.generate_request_id
        self._keep_external_id = spec.preserve_external_request_id
        self._append_port = spec.append_x_forwarded_port
        self._client_cert = ClientCertHeader(spec)
        self._scheme = spec.scheme_to_overwrite.encode()
        self._via = spec.via.encode()
        self._service = service_cluster.encode() if spec.add_user_agent else None
        self._node = node_id.encode()
        self._local_ip = local_ip.encode()
        self._strip_port = spec.strip_matching_host_port
        self._strip_any_port = spec.strip_any_host_port
        self._strip_dot = spec.strip_trailing_host_dot
        self._strips_host = spec.strip_matching_host_port or spec.strip_any_host_port or spec.strip_trailing_host_dot
        self._paths = PathPolicy(spec)
        self._plain = not (
            spec.use_remote_address
            or spec.via
            or spec.add_user_agent
            or spec.append_x_forwarded_port
            or spec.scheme_to_overwrite
        )

    def prepare(self, head: RequestHead, connection: ConnectionInfo, index: Mapping[bytes, bytes]) -> Reply | None:
        """Check and edit `head` in place; `index` is a mapping of its fields, by name. Returns the answer for a request that
        goes no further."""
        authority = head.authority
        if authority is None:
            return _INVALID_HOST
        path = head.path
        if head.method != b"CONNECT":
            if not path:
                return _MISSING_PATH
            if path[0] != 0x2F:
                return _RELATIVE_PATH
            refused = self._paths.apply(head)
            if refused is not None:
                return refused
            if head.method == b"QUERY" and head.get(b"content-type") is None:
                return _QUERY_WITHOUT_TYPE
        if self._strips_host:
            head.authority = self._host(authority, connection)
        if self._plain and (
            _TREATED_ALWAYS.isdisjoint(index)
            # What every gRPC client says; HTTP/2 allows no other value of it.
            or (head.version is _HTTP2 and index.get(b"te") == b"trailers" and _TREATED_BUT_TE.isdisjoint(index))
        ):
            # The common request, 0.7 us with its id.
            tls = connection.tls
            scheme = b"http" if tls is None else b"https"
            if not head.scheme:
                head.scheme = scheme
            fields = head.fields
            fields.append((_XFP, scheme))
            if self._generate_id:
                fields.append((_REQUEST_ID, self._new_id()))
            if tls is not None and self._client_cert.adds:
                self._client_cert.add(head, tls)
            return None
        self._edit(head, connection, index)
        return None

    def client_address(self, head: RequestHead, connection: ConnectionInfo) -> Address:
        """The trusted client address (``%DOWNSTREAM_REMOTE_ADDRESS%``), as it was before `prepare` appended to XFF."""
        hops = self._hops if self._edge else self._hops + 1
        if hops == 0:
            return connection.remote
        forwarded = head.get_all(_XFF)
        if not forwarded:
            return connection.remote
        entries = b",".join(forwarded).split(b",")
        if len(entries) < hops:
            return connection.remote
        return _parse_address(entries[-hops]) or connection.remote

    def _edit(self, head: RequestHead, connection: ConnectionInfo, index: Mapping[bytes, bytes]) -> None:
        tls = connection.tls
        own_scheme = b"http" if tls is None else b"https"
        if self._scheme:
            head.scheme = self._scheme
            head.set(_XFP, self._scheme)
            index = dict(head.fields)
        elif not head.scheme:
            head.scheme = index.get(_XFP, own_scheme).lower()
        noticed = {name: head.get(name) or b"" for name in _NOTICED if name in index}
        single_xff = b"," not in noticed.get(_XFF, b",")
        had_xff = _XFF in noticed
        client = self.client_address(head, connection)
        internal = (not had_xff if self._edge else single_xff) and self._is_internal(client)
        external_edge = self._edge and not internal
        keeps_cert = b"x-forwarded-client-cert" not in noticed or self._client_cert.keeps(tls)
        head.fields = [f for f in head.fields if self._keeps(f, head, internal=internal, keeps_cert=keeps_cert)]
        if tls is not None and self._client_cert.adds:
            self._client_cert.add(head, tls)
        if b"referer" in noticed and (referer := head.get(b"referer")) is not None:
            head.set(b"referer", referer)  # one header, as Envoy keeps it
        if self._edge:
            self._forwarded_for(head, connection)
        if self._edge and not (self._hops and _XFP in noticed):
            head.set(_XFP, own_scheme)
        elif _XFP not in noticed:
            head.add(_XFP, own_scheme)
        if self._append_port and not (self._hops and b"x-forwarded-port" in noticed):
            head.set(b"x-forwarded-port", str(connection.local.port).encode())
        if internal:
            head.add(b"x-envoy-internal", b"true")
        if self._service is not None:
            head.set(b"x-envoy-downstream-service-cluster", self._service)
            if not noticed.get(b"user-agent"):
                head.set(b"user-agent", self._service)
            if self._node:
                head.set(b"x-envoy-downstream-service-node", self._node)
        if self._via:
            before = noticed.get(b"via")
            head.set(b"via", before + b", " + self._via if before else self._via)
        if external_edge:
            head.set(b"x-envoy-external-address", client.host.encode())
        self._request_id(head, external_edge=external_edge, present=noticed.get(_REQUEST_ID))

    def _keeps(self, field: tuple[bytes, bytes], head: RequestHead, *, internal: bool, keeps_cert: bool) -> bool:
        name, value = field
        if name not in _NOTICED:
            return True
        if name in _HOP_BY_HOP or name == b"early-data":
            return False
        if name in _CONNECTION:
            return head.upgrade is not None
        if name == b"te":
            return value == b"trailers"
        if name == b"referer":
            return _referer_is_good(value)
        if name == b"x-forwarded-client-cert":
            return keeps_cert
        if internal:
            return True
        if name in EXTERNAL_FORBIDDEN:
            return False
        return not (self._edge and name in _EDGE_FORBIDDEN)

    def _is_internal(self, client: Address) -> bool:
        if client.is_pipe:
            return self._unix_internal
        return self._internal.contains(client.host)

    def _forwarded_for(self, head: RequestHead, connection: ConnectionInfo) -> None:
        if self._skip_xff:
            return
        peer = connection.remote.host
        entry = self._local_ip if peer in ("127.0.0.1", "::1") else peer.encode()
        before = head.get_all(_XFF)
        head.set(_XFF, b",".join([*before, entry]))

    def _request_id(self, head: RequestHead, *, external_edge: bool, present: bytes | None) -> None:
        if not self._generate_id:
            return
        if present is None or (external_edge and not self._keep_external_id):
            head.set(_REQUEST_ID, self._new_id())

    def _new_id(self) -> bytes:
        # A version-4 UUID from one draw, by hand: 0.4 us, where uuid.uuid4() costs 2.5.
        text = self._random.getrandbits(128).to_bytes(16).hex()
        variant = _VARIANT[text[16]]
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}".encode()

    def _host(self, authority: bytes, connection: ConnectionInfo) -> bytes:
        host, port = _split_port(authority)
        if self._strip_dot and host.endswith(b"."):
            host = host[:-1]
        if port is None:
            return host
        if self._strip_any_port or (self._strip_port and port == connection.local.port):
            return host
        return b"%b:%d" % (host, port)


def _split_port(authority: bytes) -> tuple[bytes, int | None]:
    host, colon, port = authority.rpartition(b":")
    if colon and port.isdigit() and (b":" not in host or host.endswith(b"]")):
        return host, int(port)
    return authority, None


def _parse_address(text: bytes) -> Address | None:
    try:
        value = text.strip().decode("ascii")
        return Address(str(ipaddress.ip_address(value)))
    except ValueError:
        return None


def _referer_is_good(value: bytes) -> bool:
    """Envoy drops a referer with a fragment or user information; a relative one is kept."""
    if b"#" in value:
        return False
    scheme, found, rest = value.partition(b"://")
    if not found:
        return value.startswith(b"/")
    return bool(scheme) and b"@" not in rest.split(b"/", 1)[0]
