"""``x-forwarded-client-cert``: who the client of a mutual TLS connection is, told to the upstream.

Envoy's rules (conn_manager_utility.cc, `mutateXfccRequestHeader`; "HTTP header manipulation", x-forwarded-client-cert): a
header that a client sent is only kept on a mutual TLS connection and in a mode that forwards, or with ALWAYS_FORWARD_ONLY.
Our own element says `By` and `Hash` always, then what the configuration asks for.
"""

from mosn_xds.data.codec.head import RequestHead
from mosn_xds.data.net.tls_facts import TlsFacts
from mosn_xds.spec.listener import ClientCertDetail, ForwardClientCert, HttpConnectionManager

NAME = b"x-forwarded-client-cert"

_ADDING = (ForwardClientCert.APPEND_FORWARD, ForwardClientCert.SANITIZE_SET)


class ClientCertHeader:
    """One connection manager's treatment of the header."""

    __slots__ = ("_details", "_mode", "adds")

    def __init__(self, spec: HttpConnectionManager) -> None:
        self._mode = spec.forward_client_cert
        self._details = spec.client_cert_details
        self.adds = self._mode in _ADDING
        """Whether requests of mutual TLS connections get an element of ours."""

    def keeps(self, tls: TlsFacts | None) -> bool:
        """Whether what the client sent stays."""
        if self._mode is ForwardClientCert.ALWAYS_FORWARD_ONLY:
            return True
        if tls is None or tls.peer is None:
            return False
        return self._mode in (ForwardClientCert.FORWARD_ONLY, ForwardClientCert.APPEND_FORWARD)

    def add(self, head: RequestHead, tls: TlsFacts) -> None:
        """Add our element to a request that has what is kept of the client's."""
        element = tls.xfcc
        if element is None:
            element = tls.xfcc = self._element(tls)
        if not element:
            return
        before = head.get_all(NAME)
        head.set(NAME, b",".join([*before, element]))

    def _element(self, tls: TlsFacts) -> bytes:
        peer, own = tls.peer, tls.own
        if peer is None:
            return b""
        parts = [f"By={uri}" for uri in (own.uri_sans if own is not None else ())]
        parts.append(f"Hash={peer.sha256}")
        for detail in self._details:
            match detail:
                case ClientCertDetail.CERT:
                    parts.append(f'Cert="{peer.quoted_pem}"')
                case ClientCertDetail.CHAIN:
                    chain = "".join(one.quoted_pem for one in tls.peer_chain)
                    parts.append(f'Chain="{chain}"')
                case ClientCertDetail.SUBJECT:
                    parts.append(f'Subject="{peer.subject}"')
                case ClientCertDetail.URI:
                    parts += [f"URI={uri}" for uri in peer.uri_sans] or ["URI="]
                case ClientCertDetail.DNS:
                    parts += [f"DNS={name}" for name in peer.dns_sans]
        return ";".join(parts).encode()

    def __repr__(self) -> str:
        return f"<ClientCertHeader {self._mode.name}>"
