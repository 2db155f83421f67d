"""The door to OpenSSL's functions below pyOpenSSL's: which of them are used, all in one place.

pyOpenSSL's methods cost twice what OpenSSL does for a small record (9.2 us against 3.8 for 1 KB there and back), and some
things have no method at all: curves, the reason of a failed verification, an alert of one's own for it. So data, handshakes
and verification go through the binding that pyOpenSSL itself stands on. It is private: `USED` names every function, and a
test asks whether they are there, so that an update of the library cannot take one away unnoticed.

Pointers are cffi's, so everything here is `Any`. Nobody but the TLS modules may import this.
"""

from typing import Any

from OpenSSL import SSL

lib: Any = SSL._lib  # type: ignore[attr-defined]
ffi: Any = SSL._ffi  # type: ignore[attr-defined]

USED = (
    "BIO_free",
    "BIO_new",
    "BIO_get_mem_data",
    "BIO_read",
    "BIO_s_mem",
    "BIO_set_mem_eof_return",
    "BIO_write",
    "ERR_clear_error",
    "ERR_get_error",
    "ERR_lib_error_string",
    "ERR_reason_error_string",
    "SSL_CTX_set1_curves_list",
    "SSL_CTX_set_verify",
    "SSL_SESSION_free",
    "SSL_do_handshake",
    "SSL_get0_group_name",
    "SSL_get1_session",
    "SSL_get_error",
    "SSL_get_peer_certificate",
    "SSL_read",
    "SSL_session_reused",
    "SSL_set_session",
    "SSL_set_shutdown",
    "SSL_shutdown",
    "SSL_write",
    "X509_STORE_CTX_get0_cert",
    "X509_STORE_CTX_get_current_cert",
    "X509_STORE_CTX_get_error",
    "X509_STORE_CTX_get_error_depth",
    "X509_STORE_CTX_set_error",
    "X509_free",
    "X509_verify_cert_error_string",
    "i2d_X509_bio",
)

WANT_READ: int = lib.SSL_ERROR_WANT_READ
WANT_WRITE: int = lib.SSL_ERROR_WANT_WRITE
ZERO_RETURN: int = lib.SSL_ERROR_ZERO_RETURN
BOTH_SHUT: int = lib.SSL_SENT_SHUTDOWN | lib.SSL_RECEIVED_SHUTDOWN


def take_errors() -> list[tuple[str, str]]:
    """Empty this thread's error queue: library and reason of each error, oldest first."""
    errors = []
    while number := lib.ERR_get_error():
        errors.append((_text(lib.ERR_lib_error_string(number)), _text(lib.ERR_reason_error_string(number))))
    return errors


def verify_error_text(number: int) -> str:
    """What OpenSSL says of a failed verification."""
    return _text(lib.X509_verify_cert_error_string(number))


def certificate_der(x509: Any) -> bytes:
    """A certificate of OpenSSL's as DER."""
    bio = lib.BIO_new(lib.BIO_s_mem())
    try:
        lib.i2d_X509_bio(bio, x509)
        data = ffi.new("char **")
        size = lib.BIO_get_mem_data(bio, data)
        return bytes(ffi.buffer(data[0], size))
    finally:
        lib.BIO_free(bio)


def peer_certificate_der(ssl: Any) -> bytes | None:
    """What the peer showed, as DER; None if that was nothing."""
    x509 = lib.SSL_get_peer_certificate(ssl)
    if x509 == ffi.NULL:
        return None
    try:
        return certificate_der(x509)
    finally:
        lib.X509_free(x509)


def _text(pointer: Any) -> str:
    return "" if pointer == ffi.NULL else ffi.string(pointer).decode("utf-8", "replace")
