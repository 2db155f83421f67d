"""Whose order of ciphers counts on our side of a listener: in TLS 1.2 ours, in TLS 1.3 the client's.

So it is in Envoy, for BoringSSL's servers have no order of their own in TLS 1.3 (nor ChaCha20 in front, where the processor
has AES). OpenSSL has one switch for the ciphers of both, and for the groups, in which the server's order counts with
BoringSSL, too. So the switch is on, and when a client says hello, our order of TLS 1.3 ciphers becomes what it offers.
"""

from typing import Any

from OpenSSL import SSL

from mosn_xds.data.net.openssl import ffi, hidden

_NAMES = {
    b"\x13\x01": b"TLS_AES_128_GCM_SHA256",
    b"\x13\x02": b"TLS_AES_256_GCM_SHA384",
    b"\x13\x03": b"TLS_CHACHA20_POLY1305_SHA256",
}
"""RFC 8446 appendix B.4."""
TLS13_CIPHERS = b":".join(_NAMES.values())
_GO_ON = 1
"""SSL_CLIENT_HELLO_SUCCESS."""


class ClientOrder:
    """See the module. Must live as long as the contexts that it is given to."""

    def __init__(self) -> None:
        self._callback = ffi.callback("int(SSL *, int *, void *)", self._on_hello, error=_GO_ON)

    def give_to(self, context: SSL.Context) -> None:
        """Without the functions for it (`openssl.HIDDEN`) our own order counts."""
        set_callback = hidden("SSL_CTX_set_client_hello_cb")
        if set_callback is not None:
            set_callback(context._context, self._callback, ffi.NULL)

    def _on_hello(self, ssl: Any, alert: Any, _: Any) -> int:
        """SSL_CTX_set_client_hello_cb(3)."""
        ciphers = ffi.new("unsigned char **")
        size = hidden("SSL_client_hello_get0_ciphers")(ssl, ciphers)
        offered = bytes(ffi.buffer(ciphers[0], size)) if size else b""
        codes = [offered[at : at + 2] for at in range(0, len(offered), 2)]
        wanted = b":".join(dict.fromkeys(_NAMES[code] for code in codes if code in _NAMES))
        if wanted and not TLS13_CIPHERS.startswith(wanted):
            hidden("SSL_set_ciphersuites")(ssl, wanted)
        return _GO_ON

    def __repr__(self) -> str:
        return "<ClientOrder>"
