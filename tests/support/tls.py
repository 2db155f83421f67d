"""TLS ends for tests: a client that says exactly what it offers and what became of it, and HTTP servers that do."""

import ssl
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.authority import Issued
from tests.support.client import DEFAULT_TIMEOUT_S, Connection
from tests.support.server import PeerGone, Stream
from tests.support.upstream import Step, Upstream

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def load(context: ssl.SSLContext, issued: Issued) -> None:
    """Give the context a certificate; the standard library reads it from files only."""
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*issued.write(Path(folder)))


def client_context(
    roots: str = "",
    *,
    certificate: Issued | None = None,
    alpn: Sequence[str] = (),
    version: ssl.TLSVersion | None = None,
    ciphers: str = "",
    curve: str = "",
) -> ssl.SSLContext:
    """Trusts `roots` (PEM; nobody is checked without), shows `certificate`; `version` alone, if given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if roots:
        context.load_verify_locations(cadata=roots)
    else:
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        load(context, certificate)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    if curve:
        context.set_ecdh_curve(curve)
    return context


class TlsConnection(Connection):
    """A `Connection` over TLS. Raises ssl.SSLError, or ConnectionError, if the handshake fails."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        *,
        host: str = "127.0.0.1",
        mark: int | None = None,
        sni: str | None = None,
        session: ssl.SSLSession | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        before: bytes = b"",
    ) -> None:
        """`before` goes ahead of the handshake, in plaintext."""
        super().__init__(port, host=host, mark=mark, timeout_s=timeout_s)
        if before:
            self._socket.sendall(before)
        try:
            self.tls = context.wrap_socket(self._socket, server_hostname=sni, session=session)
        except BaseException:
            self._socket.close()
            raise
        self._socket = self.tls

    def _recv(self, timeout_s: float | None) -> bytes:
        try:
            return super()._recv(timeout_s)
        except ssl.SSLEOFError:
            return b""


@dataclass
class SeenHandshake:
    """What a `TlsUpstream` saw of one connection; `error` is why its handshake failed, as the standard library says it."""

    sni: str | None = None
    alpn: str | None = None
    version: str = ""
    cipher: str = ""
    client_names: tuple[str, ...] = ()
    reused: bool = False
    error: str = ""


class TlsUpstream(Upstream):
    """An HTTP/1.1 server over TLS; `handshakes` holds what it saw of each connection, by number."""

    def __init__(
        self,
        name: str,
        certificate: Issued,
        *,
        client_roots: str = "",
        alpn: Sequence[str] = (),
        configure: Callable[[ssl.SSLContext], None] | None = None,
        default: Step | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.handshakes: dict[int, SeenHandshake] = {}
        self._folder = tempfile.TemporaryDirectory()
        self._files = certificate.write(Path(self._folder.name))
        self._client_roots = client_roots
        self._alpn = list(alpn)
        self._configure = configure
        self._tickets = self._context()
        super().__init__(name, host, port, default)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files)
        if self._client_roots:
            context.load_verify_locations(cadata=self._client_roots)
            context.verify_mode = ssl.CERT_REQUIRED
        if self._alpn:
            context.set_alpn_protocols(self._alpn)
        if self._configure is not None:
            self._configure(context)
        return context

    def serve(self, stream: Stream, number: int) -> None:
        seen = SeenHandshake()

        def on_sni(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            seen.sni = name

        context = self._tickets
        with self._lock:
            self.handshakes[number] = seen
        tls = context.wrap_socket(stream.socket, server_side=True, do_handshake_on_connect=False)
        context.sni_callback = on_sni  # asked during this handshake: connections of a case come one after the other
        try:
            tls.do_handshake()
        except OSError as error:
            seen.error = (error.reason if isinstance(error, ssl.SSLError) else None) or type(error).__name__
            tls.close()
            raise PeerGone from error
        seen.alpn, seen.version = tls.selected_alpn_protocol(), tls.version() or ""
        seen.cipher = (tls.cipher() or ("",))[0]
        seen.reused = bool(tls.session_reused)
        names = (tls.getpeercert() or {}).get("subjectAltName", ())
        seen.client_names = tuple(str(value) for _, value in names)  # type: ignore[misc]
        try:
            super().serve(Stream(tls), number)
        except ssl.SSLError as error:
            seen.error = error.reason or "SSLError"
            raise PeerGone from error
        finally:
            _say_goodbye(tls)


def _say_goodbye(tls: ssl.SSLSocket) -> None:
    """Close, with close_notify if the peer is still there."""
    try:
        tls.settimeout(0.05)
        tls.unwrap()
    except (OSError, ValueError):
        pass
    finally:
        tls.close()


def alert_of(error: OSError) -> str:
    """The alert that ended a handshake, as the standard library names it; empty if the connection just ended."""
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return error.reason or ""
    return ""
