"""ClientHello messages as a real TLS library writes them, for tests that only look at them."""

import ssl
from collections.abc import Sequence


def client_hello(server_name: str | None = None, protocols: Sequence[str] = ()) -> bytes:
    """The first flight of a TLS client that asks for the name and offers the ALPN protocols."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake cannot end without a peer")
