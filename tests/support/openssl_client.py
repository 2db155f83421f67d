"""A TLS client on pyOpenSSL, for what the standard library's cannot say: the order of TLS 1.3 ciphers, a certificate's status."""

import socket
from dataclasses import dataclass

from OpenSSL import SSL

from tests.support.client import DEFAULT_TIMEOUT_S

V12, V13 = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION


@dataclass
class Handshaken:
    """What a handshake came to. `staple` is the OCSP response, DER; `error` OpenSSL's reason, empty if it is complete."""

    cipher: str = ""
    group: str = ""
    staple: bytes = b""
    subject: str = ""
    error: str = ""


def shake_hands(
    port: int,
    *,
    version: int = V13,
    ciphers: str = "",
    groups: str = "X25519:P-256",
    asks_status: bool = False,
    host: str = "127.0.0.1",
) -> Handshaken:
    """One handshake with this version alone. `ciphers` and `groups` are offered in their order. Nothing is verified."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    if ciphers and version == V13:
        context.set_tls13_ciphersuites(ciphers.encode())
    elif ciphers:
        context.set_cipher_list(ciphers.encode())
    # pyOpenSSL has no method for it.
    assert SSL._lib.SSL_CTX_set1_curves_list(context._context, groups.encode())  # type: ignore[attr-defined]
    found = Handshaken()

    def on_status(_: SSL.Connection, staple: bytes, __: object) -> bool:
        found.staple = staple
        return True

    context.set_ocsp_client_callback(on_status)
    with socket.create_connection((host, port), DEFAULT_TIMEOUT_S) as sock:
        sock.settimeout(None)  # pyOpenSSL wants a blocking socket; the peer's time-outs bound the wait
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        if asks_status:
            connection.request_ocsp()
        try:
            connection.do_handshake()
        except SSL.Error as error:
            found.error = error.args[0][0][2] if error.args and error.args[0] else type(error).__name__
            return found
        found.cipher, found.group = connection.get_cipher_name() or "", connection.get_group_name() or ""
        certificate = connection.get_peer_certificate(as_cryptography=True)
        found.subject = certificate.subject.rfc4514_string() if certificate is not None else ""
        connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
    return found
