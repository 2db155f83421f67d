"""Format operators over TLS: what each side of each connection showed of itself, and what was agreed on.

All of it is read from the connection's `TlsFacts`, which find it out when first asked and keep it. In plaintext, and where a
certificate says nothing, there is no value.
"""

from collections.abc import Callable, Mapping

from mosn_xds.data.net.tls_facts import CertificateFacts, TlsFacts
from mosn_xds.data.observe.clock_format import DEFAULT_FORMAT, compile_time_format
from mosn_xds.data.observe.getters import Factory, FormatEnvironment, Getter, Value, plain, text_value
from mosn_xds.data.observe.info import StreamInfo

_Source = Callable[[StreamInfo], TlsFacts | None]
_Side = Callable[[TlsFacts], CertificateFacts | None]


def _downstream(info: StreamInfo) -> TlsFacts | None:
    return info.connection.tls


def _upstream(info: StreamInfo) -> TlsFacts | None:
    return info.upstream_tls


def _peer(tls: TlsFacts) -> CertificateFacts | None:
    return tls.peer


def _own(tls: TlsFacts) -> CertificateFacts | None:
    return tls.own


def _of_connection(source: _Source, get: Callable[[TlsFacts], str]) -> Factory:
    def value(info: StreamInfo) -> Value:
        tls = source(info)
        return text_value(get(tls)) if tls is not None else None

    return plain(value)


def _of_certificate(source: _Source, side: _Side, get: Callable[[CertificateFacts], str]) -> Factory:
    def value(info: StreamInfo) -> Value:
        tls = source(info)
        certificate = side(tls) if tls is not None else None
        return text_value(get(certificate)) if certificate is not None else None

    return plain(value)


def _of_chain(get: Callable[[CertificateFacts], str]) -> Factory:
    def value(info: StreamInfo) -> Value:
        tls = _downstream(info)
        return text_value(",".join(map(get, tls.peer_chain))) if tls is not None else None

    return plain(value)


def _of_issuer(get: Callable[[CertificateFacts], str]) -> Factory:
    def value(info: StreamInfo) -> Value:
        tls = _downstream(info)
        chain = tls.peer_chain if tls is not None else ()
        return text_value(get(chain[1])) if len(chain) > 1 else None

    return plain(value)


def _moment(source: _Source, get: Callable[[CertificateFacts], float]) -> Factory:
    def factory(arg: str | None, environment: FormatEnvironment) -> Getter:
        render = compile_time_format(arg or DEFAULT_FORMAT)

        def value(info: StreamInfo) -> Value:
            tls = source(info)
            peer = tls.peer if tls is not None else None
            return render(get(peer)) if peer is not None else None

        return value

    return factory


def _begin(certificate: CertificateFacts) -> float:
    return certificate.parsed.not_valid_before_utc.timestamp()


def _end(certificate: CertificateFacts) -> float:
    return certificate.parsed.not_valid_after_utc.timestamp()


_SANS: Mapping[str, Callable[[CertificateFacts], str]] = {
    "URI_SAN": lambda certificate: ",".join(certificate.uri_sans),
    "DNS_SAN": lambda certificate: ",".join(certificate.dns_sans),
    "IP_SAN": lambda certificate: ",".join(certificate.ip_sans),
    "EMAIL_SAN": lambda certificate: ",".join(certificate.email_sans),
    "OTHERNAME_SAN": lambda certificate: ",".join(value for _, value in certificate.other_names),
}
_SUBJECT: Mapping[str, Callable[[CertificateFacts], str]] = {"SUBJECT": lambda certificate: certificate.subject}
_UPSTREAM_SANS = {name: get for name, get in _SANS.items() if name in ("URI_SAN", "DNS_SAN", "IP_SAN")}


def _connection_operators(prefix: str, source: _Source) -> dict[str, Factory]:
    return {
        f"{prefix}_TLS_VERSION": _of_connection(source, lambda tls: tls.version),
        f"{prefix}_TLS_CIPHER": _of_connection(source, lambda tls: tls.cipher),
        f"{prefix}_TLS_GROUP": _of_connection(source, lambda tls: tls.group),
        f"{prefix}_PEER_ISSUER": _of_certificate(source, _peer, lambda certificate: certificate.issuer),
        f"{prefix}_PEER_CERT": _of_certificate(source, _peer, lambda certificate: certificate.quoted_pem),
        f"{prefix}_PEER_CERT_V_START": _moment(source, _begin),
        f"{prefix}_PEER_CERT_V_END": _moment(source, _end),
    }


TLS_OPERATORS: Mapping[str, Factory] = {
    **_connection_operators("DOWNSTREAM", _downstream),
    **_connection_operators("UPSTREAM", _upstream),
    **{
        f"DOWNSTREAM_{name}_{kind}": _of_certificate(_downstream, side, get)
        for name, side in (("PEER", _peer), ("LOCAL", _own))
        for kind, get in {**_SANS, **_SUBJECT}.items()
    },
    **{
        f"UPSTREAM_{name}_{kind}": _of_certificate(_upstream, side, get)
        for name, side in (("PEER", _peer), ("LOCAL", _own))
        for kind, get in _UPSTREAM_SANS.items()
    },
    "UPSTREAM_PEER_SUBJECT": _of_certificate(_upstream, _peer, lambda certificate: certificate.subject),
    "DOWNSTREAM_PEER_SERIAL": _of_certificate(_downstream, _peer, lambda certificate: certificate.serial),
    "DOWNSTREAM_PEER_FINGERPRINT_256": _of_certificate(_downstream, _peer, lambda certificate: certificate.sha256),
    "DOWNSTREAM_PEER_FINGERPRINT_1": _of_certificate(_downstream, _peer, lambda certificate: certificate.sha1),
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256": _of_chain(lambda certificate: certificate.sha256),
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1": _of_chain(lambda certificate: certificate.sha1),
    "DOWNSTREAM_PEER_CHAIN_SERIALS": _of_chain(lambda certificate: certificate.serial),
    "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256": _of_issuer(lambda certificate: certificate.sha256),
    "DOWNSTREAM_PEER_ISSUER_SERIAL": _of_issuer(lambda certificate: certificate.serial),
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON": _of_connection(_downstream, lambda tls: tls.failure.replace(" ", "_")),
}
