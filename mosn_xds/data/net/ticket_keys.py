"""The keys that session tickets are encrypted with, so that a session begun in one worker goes on in another.

OpenSSL draws random keys for each context. Setting them is `SSL_CTX_ctrl` (SSL_CTRL_SET_TLSEXT_TICKET_KEYS, 80 bytes: name,
HMAC key, AES key, as in Envoy's `session_ticket_keys`). Neither pyOpenSSL nor its binding have that call, and OpenSSL is
linked into the binding's shared object without being exported. But the object's symbol table has it, and one symbol that is
exported tells where the object was loaded: that is all an address takes. Before a context is touched, the function must
answer what its documentation says (that such keys are 80 bytes long); where the symbols were stripped there is no function,
`TicketKeys.available` is false, and sessions are resumed by the worker that began them.
"""

import ctypes
import mmap
import struct
from functools import cache
from typing import Any

from cryptography.hazmat.bindings import _rust
from OpenSSL import SSL

from mosn_xds.data.net.openssl import ffi

KEY_BYTES = 80

_GET_TICKET_KEYS, _SET_TICKET_KEYS = 58, 59
_EXPORTED = b"PyInit__rust"
_WANTED = b"SSL_CTX_ctrl"
_SYMTAB, _DYNSYM = 2, 11
_SYMBOL = struct.Struct("<IBBHQQ")


class TicketKeys:
    """See the module."""

    @staticmethod
    def available() -> bool:
        return _control() is not None

    @staticmethod
    def set(context: SSL.Context, keys: bytes) -> bool:
        """Encrypt and decrypt the tickets of `context` with `keys`. False if there is no way to."""
        control = _control()
        if control is None or len(keys) != KEY_BYTES:
            return False
        pointer = int(ffi.cast("intptr_t", context._context))
        if control(pointer, _GET_TICKET_KEYS, 0, None) != KEY_BYTES:
            return False
        return bool(control(pointer, _SET_TICKET_KEYS, KEY_BYTES, keys) == 1)


@cache
def _control() -> Any:
    """SSL_CTX_ctrl as a function, None if it cannot be found."""
    path = _rust.__file__
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
            offsets = _symbols(image)
    except (OSError, ValueError, struct.error):
        return None
    if _WANTED not in offsets or _EXPORTED not in offsets:
        return None
    library = ctypes.CDLL(path)
    known = ctypes.cast(library[_EXPORTED.decode()], ctypes.c_void_p).value or 0
    prototype = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
    return prototype(known - offsets[_EXPORTED] + offsets[_WANTED])


def _symbols(image: mmap.mmap) -> dict[bytes, int]:
    """The offsets of our two symbols, by name, from the symbol tables of a 64-bit little-endian ELF object."""
    found: dict[bytes, int] = {}
    if image[:6] != b"\x7fELF\x02\x01":
        return found
    (sections_at,) = struct.unpack_from("<Q", image, 40)
    size, count = struct.unpack_from("<HH", image, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, sections_at + n * size) for n in range(count)]
    for _, kind, _, _, offset, length, link, _, _, _ in headers:
        if kind not in (_SYMTAB, _DYNSYM):
            continue
        names_at = headers[link][4]
        for wanted in (_WANTED, _EXPORTED):
            at = image.find(b"\0" + wanted + b"\0", names_at, names_at + headers[link][5])
            if at < 0:
                continue
            name = at + 1 - names_at
            symbols = image[offset : offset + length]
            found.update(
                (wanted, symbol[4]) for symbol in _SYMBOL.iter_unpack(symbols) if symbol[0] == name and symbol[4]
            )
    return found
