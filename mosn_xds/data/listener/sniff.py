"""What the first bytes of a connection say: a TLS ClientHello with its server name and ALPN, or an HTTP request.

Pure functions over a prefix of the stream. Each answers with what it found, `Sniff.NO` (it is something else), or
`Sniff.MORE` (the prefix does not tell yet). Nothing is consumed, and nothing is checked that the protocol's own
implementation will check: what is malformed is simply something else.
"""

import re
from enum import Enum
from typing import NamedTuple

MAX_CLIENT_HELLO_BYTES = 16384
"""Envoy's SSL3_RT_MAX_PLAIN_LENGTH, for the raw bytes of the hello with its record headers."""
MAX_HTTP_PREFIX_BYTES = 65536

_RECORD_START = b"\x16\x03"
"""Handshake, and the major version of SSL 3.0 and all TLS."""
_CLIENT_HELLO = 1
_MAX_RECORD_BYTES = 16384
_SERVER_NAME, _ALPN = 0, 16

_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_METHODS = frozenset(
    b"ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE M-SEARCH NOTIFY "
    b"OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK "
    b"UNSUBSCRIBE".split()
)
_LINE_END = re.compile(b"[\r\n]")
_VERSION = re.compile(b"HTTP/[0-9]\\.[0-9]")
_FIRST_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Sniff(Enum):
    NO = "something else"
    MORE = "too little to tell"


class ClientHello(NamedTuple):
    """RFC 8446 section 4.1.2: the server name in lower case (empty for none) and ALPN in the client's order."""

    sni: str
    alpns: tuple[str, ...]


class _Cut(Exception):
    """A length that points behind the end."""


class _Reader:
    """TLS presentation language: numbers and vectors with a length in front (RFC 8446 section 3)."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)

    def __bool__(self) -> bool:
        return self._at < self._end

    def take(self, size: int) -> bytes:
        start = self._at
        self._at += size
        if self._at > self._end:
            raise _Cut
        return self._data[start : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))


def sniff_tls(data: bytes) -> ClientHello | Sniff:
    """A ClientHello, whole, maybe spread over several records."""
    message = b""
    at = 0
    while True:
        header = data[at : at + 5]
        if not _RECORD_START.startswith(header[:2]):
            return Sniff.NO
        if len(header) < 5:
            return Sniff.MORE
        size = int.from_bytes(header[3:5], "big")
        if not 0 < size <= _MAX_RECORD_BYTES:
            return Sniff.NO
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        if message and message[0] != _CLIENT_HELLO:
            return Sniff.NO
        if len(message) >= 4:
            length = int.from_bytes(message[1:4], "big")
            if length > _MAX_RECORD_BYTES:
                return Sniff.NO
            if len(message) >= 4 + length:
                return _parse_client_hello(message[4 : 4 + length])
        if at > len(data):
            return Sniff.MORE


def _parse_client_hello(body: bytes) -> ClientHello | Sniff:
    try:
        return _read_client_hello(_Reader(body))
    except (_Cut, ValueError):
        return Sniff.NO


def _read_client_hello(hello: _Reader) -> ClientHello:
    hello.take(2 + 32)  # legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2)  # cipher_suites
    hello.vector(1)  # legacy_compression_methods
    sni = ""
    alpns: tuple[str, ...] = ()
    if hello:
        extensions = _Reader(hello.vector(2))
        while extensions:
            kind = extensions.number(2)
            content = _Reader(extensions.vector(2))
            if kind == _SERVER_NAME:
                sni = _parse_server_name(content)
            elif kind == _ALPN:
                alpns = _parse_alpn(content)
    return ClientHello(sni, alpns)


def _parse_server_name(content: _Reader) -> str:
    """RFC 6066 section 3. ValueError for a name that no host can have."""
    names = _Reader(content.vector(2))
    while names:
        kind = names.number(1)
        name = names.vector(2)
        if kind == 0:
            if not name or len(name) > 255 or b"\0" in name:
                raise ValueError("server name")
            return name.decode("ascii").lower()
    return ""


def _parse_alpn(content: _Reader) -> tuple[str, ...]:
    """RFC 7301 section 3.1."""
    protocols = _Reader(content.vector(2))
    found = []
    while protocols:
        found.append(protocols.vector(1).decode("latin-1"))
    return tuple(found)


def sniff_http(data: bytes) -> str | Sniff:
    """``http/1.0``, ``http/1.1`` or ``h2c``: the application protocols that Envoy's http_inspector sets."""
    if _HTTP2_PREFACE.startswith(data[: len(_HTTP2_PREFACE)]):
        return "h2c" if len(data) >= len(_HTTP2_PREFACE) else Sniff.MORE
    line = data.lstrip(b"\r\n")
    if not line:
        return Sniff.MORE
    if line[0] not in _FIRST_LETTERS:
        return Sniff.NO
    words = _LINE_END.split(line, 1)
    if len(words) == 1:
        return Sniff.MORE
    words = words[0].split()
    if len(words) not in (2, 3) or (words[0] not in _METHODS and len(words) == 2):
        return Sniff.NO  # with a version behind it, an unknown method is HTTP all the same, and refused as such
    if len(words) == 2:  # as in HTTP/0.9, which has no version
        return "http/1.0"
    if words[2] == b"HTTP/1.1":
        return "http/1.1"
    return "http/1.0" if _VERSION.fullmatch(words[2]) else Sniff.NO
