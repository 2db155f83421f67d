"""The door to OpenSSL's functions below pyOpenSSL's: which of them are used, all in one place.

pyOpenSSL's methods cost twice what OpenSSL does for a small record (9.2 us against 3.8 for 1 KB there and back), and some
things have no method at all: curves, the reason of a failed verification, an alert of one's own for it. So data, handshakes
and verification go through the binding that pyOpenSSL itself stands on. It is private: `USED` names every function, and a
test asks whether they are there, so that an update of the library cannot take one away unnoticed.

What keys session tickets are encrypted with, what a client offers, which cipher is about to be used: not even the binding says.
OpenSSL is linked into the binding's shared object without being exported; but the object's symbol table has the functions,
and one function of the binding, whose address is known, tells where the object was loaded: that is all an address takes
(`HIDDEN`). Before a context is touched, OpenSSL must answer what its documentation says (that such keys are 80 bytes long);
where the symbols were stripped there are no such functions, `hidden` finds none, and each context has ticket keys of its own.

Pointers are cffi's, so everything here is `Any`. Nobody but the TLS modules may import this.
"""

import mmap
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

from cryptography.hazmat.bindings import _rust
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
    "SSL_CIPHER_get_name",
    "SSL_CTX_set1_curves_list",
    "OPENSSL_malloc",
    "SSL_CTX_set_tlsext_status_cb",
    "SSL_CTX_set_verify",
    "SSL_SESSION_free",
    "SSL_do_handshake",
    "SSL_get0_group_name",
    "SSL_get1_session",
    "SSL_get_certificate",
    "SSL_get_error",
    "SSL_get_peer_certificate",
    "SSL_read",
    "SSL_session_reused",
    "SSL_set_session",
    "SSL_set_shutdown",
    "SSL_set_tlsext_status_ocsp_resp",
    "SSL_shutdown",
    "SSL_version",
    "SSL_write",
    "X509_STORE_CTX_get0_cert",
    "X509_STORE_CTX_get1_chain",
    "X509_STORE_CTX_get_current_cert",
    "X509_STORE_CTX_get_error",
    "X509_STORE_CTX_get_error_depth",
    "X509_STORE_CTX_set_error",
    "X509_free",
    "X509_verify_cert_error_string",
    "i2d_X509_bio",
    "sk_X509_free",
    "sk_X509_num",
    "sk_X509_value",
)
HIDDEN = {
    "EVP_CipherInit_ex": "int(*)(void *, void *, void *, unsigned char *, unsigned char *, int)",
    "EVP_MAC_init": "int(*)(void *, unsigned char *, size_t, void *)",
    "EVP_aes_256_cbc": "void *(*)(void)",
    "RAND_bytes": "int(*)(unsigned char *, int)",
    "SSL_CTX_set_client_hello_cb": "void(*)(SSL_CTX *, int(*)(SSL *, int *, void *), void *)",
    "SSL_client_hello_get0_ciphers": "size_t(*)(SSL *, unsigned char **)",
    "SSL_set_ciphersuites": "int(*)(SSL *, char *)",
    "SSL_get_pending_cipher": "SSL_CIPHER *(*)(SSL *)",
    "SSL_CTX_ctrl": "long(*)(SSL_CTX *, int, long, void *)",
    "SSL_CTX_set_num_tickets": "int(*)(SSL_CTX *, size_t)",
    "SSL_CTX_set_tlsext_ticket_key_evp_cb": (
        "int(*)(SSL_CTX *, int(*)(SSL *, unsigned char *, unsigned char *, void *, void *, int))"
    ),
}
"""Functions that are found by their symbols, and their types."""

WANT_READ: int = lib.SSL_ERROR_WANT_READ
WANT_WRITE: int = lib.SSL_ERROR_WANT_WRITE
ZERO_RETURN: int = lib.SSL_ERROR_ZERO_RETURN
BOTH_SHUT: int = lib.SSL_SENT_SHUTDOWN | lib.SSL_RECEIVED_SHUTDOWN

TICKET_KEY_BYTES = 80


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


def chain_der(store: Any) -> list[bytes]:
    """The chain that a verification (an X509_STORE_CTX) has found so far, the peer's own certificate first, as DER."""
    stack = lib.X509_STORE_CTX_get1_chain(store)
    if stack == ffi.NULL:
        return []
    try:
        found = []
        for number in range(lib.sk_X509_num(stack)):
            x509 = lib.sk_X509_value(stack, number)
            found.append(certificate_der(x509))
            lib.X509_free(x509)
        return found
    finally:
        lib.sk_X509_free(stack)


def peer_certificate_der(ssl: Any) -> bytes | None:
    """What the peer showed, as DER; None if that was nothing."""
    x509 = lib.SSL_get_peer_certificate(ssl)
    if x509 == ffi.NULL:
        return None
    try:
        return certificate_der(x509)
    finally:
        lib.X509_free(x509)


def pending_cipher(ssl: Any) -> str:
    """The cipher of a handshake that is not complete yet; empty if it is not known."""
    function = hidden("SSL_get_pending_cipher")
    cipher = ffi.NULL if function is None else function(ssl)
    return "" if cipher == ffi.NULL else _text(lib.SSL_CIPHER_get_name(cipher))


def _text(pointer: Any) -> str:
    return "" if pointer == ffi.NULL else ffi.string(pointer).decode("utf-8", "replace")


# --- session tickets ------------------------------------------------------------------------------------------------------

_GET_TICKET_KEYS, _SET_TICKET_KEYS = 58, 59
_NAME_BYTES, _MAC_KEY_BYTES, _IV_BYTES = 16, 32, 16
_FAILED, _UNKNOWN, _DONE, _RENEW = -1, 0, 1, 2
_UTF8_STRING = 4
_PARAMETERS = struct.Struct("=QIxxxxQQQ40x")
"""An OSSL_PARAM, and the one without a name that ends their list."""


def send_no_tickets(context: SSL.Context) -> None:
    """For a server that keeps no sessions and encrypts none into tickets. OpenSSL sends two even so, that lead nowhere: with what
    it takes to make them and to send them, a twentieth of a handshake."""
    function = hidden("SSL_CTX_set_num_tickets")
    if function is not None:
        function(context._context, 0)


class TicketKeys:
    """What session tickets are encrypted with: by the first key; by the others are those of former times decrypted, and
    replaced. A key is 80 bytes, of which 16 name it, 32 are for HMAC-SHA256 and 32 for AES-256-CBC: Envoy's
    `session_ticket_keys`. They must live as long as the contexts that they are given to.

    One key is OpenSSL's own affair. For several it asks here, with each ticket that is made or comes back: 5 us.
    """

    __slots__ = ("_callback", "_keys", "_parameters", "_strings")

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)
        self._callback: Any = None
        self._strings: Any = None
        self._parameters: Any = None

    def give_to(self, context: SSL.Context) -> bool:
        """Encrypt and decrypt the tickets of `context` with these keys. False if there is no way to, or they are no
        such keys."""
        control = hidden("SSL_CTX_ctrl")
        if control is None or not self._keys or any(len(key) != TICKET_KEY_BYTES for key in self._keys):
            return False
        if control(context._context, _GET_TICKET_KEYS, 0, ffi.NULL) != TICKET_KEY_BYTES:
            return False
        if len(self._keys) == 1 or not all(map(hidden, HIDDEN)):
            data = ffi.from_buffer(self._keys[0])
            return bool(control(context._context, _SET_TICKET_KEYS, TICKET_KEY_BYTES, data) == 1)
        if self._callback is None:
            self._prepare()
        return bool(hidden("SSL_CTX_set_tlsext_ticket_key_evp_cb")(context._context, self._callback) == 1)

    def _prepare(self) -> None:
        self._strings = [ffi.new("char[]", text) for text in (b"digest", b"SHA256")]
        name, value = (int(ffi.cast("uintptr_t", one)) for one in self._strings)
        self._parameters = ffi.from_buffer(_PARAMETERS.pack(name, _UTF8_STRING, value, len(b"SHA256"), 0))
        self._callback = ffi.callback(
            "int(SSL *, unsigned char *, unsigned char *, void *, void *, int)", self._on_ticket, error=_FAILED
        )

    def _on_ticket(self, ssl: Any, name: Any, iv: Any, cipher: Any, mac: Any, encrypt: int) -> int:
        """SSL_CTX_set_tlsext_ticket_key_evp_cb(3)."""
        first = self._keys[0]
        if encrypt:
            ffi.memmove(name, first, _NAME_BYTES)
            if hidden("RAND_bytes")(iv, _IV_BYTES) != 1:
                return _FAILED
        named = bytes(ffi.buffer(name, _NAME_BYTES))
        key = next((one for one in self._keys if one[:_NAME_BYTES] == named), None)
        if key is None:
            return _UNKNOWN
        mac_key = ffi.from_buffer(key[_NAME_BYTES : _NAME_BYTES + _MAC_KEY_BYTES])
        cipher_key = ffi.from_buffer(key[_NAME_BYTES + _MAC_KEY_BYTES :])
        if hidden("EVP_MAC_init")(mac, mac_key, _MAC_KEY_BYTES, self._parameters) != 1:
            return _FAILED
        kind = hidden("EVP_aes_256_cbc")()
        if hidden("EVP_CipherInit_ex")(cipher, kind, ffi.NULL, cipher_key, iv, int(bool(encrypt))) != 1:
            return _FAILED
        return _DONE if key is first else _RENEW

    def __repr__(self) -> str:
        return f"<TicketKeys {len(self._keys)}>"


# --- functions that the binding does not have -----------------------------------------------------------------------------

_KNOWN = "SSL_get_error"
_SYMTAB = 2
_SYMBOL = struct.Struct("<IBBHQQ")


def hidden(name: str) -> Any:
    """The function of `HIDDEN` with this name, None if it cannot be found."""
    return _hidden_functions().get(name)


@cache
def _hidden_functions() -> dict[str, Any]:
    known = f"_cffi_d_{_KNOWN}"
    try:
        with open(_rust.__file__, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
            offsets = _symbols(image, {name.encode() for name in (known, *HIDDEN)})
    except (OSError, ValueError, struct.error):
        return {}
    at = offsets.pop(known.encode(), None)
    if at is None:
        return {}
    loaded_at = int(ffi.cast("uintptr_t", ffi.addressof(_rust._openssl.lib, _KNOWN))) - at
    return {name.decode(): ffi.cast(HIDDEN[name.decode()], loaded_at + offset) for name, offset in offsets.items()}


def _symbols(image: mmap.mmap, wanted: set[bytes]) -> dict[bytes, int]:
    """The offsets of functions, by name, from the symbol table of a 64-bit little-endian ELF object."""
    found: dict[bytes, int] = {}
    if image[:6] != b"\x7fELF\x02\x01":
        return found
    (sections_at,) = struct.unpack_from("<Q", image, 40)
    size, count = struct.unpack_from("<HH", image, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, sections_at + n * size) for n in range(count)]
    for _, kind, _, _, offset, length, link, _, _, _ in headers:
        if kind != _SYMTAB:
            continue
        names_at, names_end = headers[link][4], headers[link][4] + headers[link][5]
        numbers = {}
        for name in wanted:
            at = image.find(b"\0" + name + b"\0", names_at, names_end)
            if at >= 0:
                numbers[at + 1 - names_at] = name
        for symbol in _SYMBOL.iter_unpack(image[offset : offset + length]):
            if symbol[0] in numbers and symbol[4]:
                found[numbers[symbol[0]]] = symbol[4]
    return found
