"""ClientHellos as real clients send them, and made by hand."""

import ssl
import struct


def client_hello(sni: str | None, alpns: tuple[str, ...] = ()) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpns:
        context.set_alpn_protocols(list(alpns))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=sni)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def split_into_records(hello: bytes, size: int) -> bytes:
    """The same handshake message in records of at most `size` bytes."""
    message = hello[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(hello[:3] + struct.pack(">H", len(part)) + part for part in parts)


def handmade_hello(extensions: bytes, *, size: int | None = None) -> bytes:
    """A ClientHello of TLS 1.2 with these extensions; `size` makes its handshake header lie."""
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\xc0\x2f" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions
    message = b"\1" + (len(body) if size is None else size).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">HH", kind, len(content)) + content
