"""A gRPC stream of raw messages for trio: the bridge to grpcio, which lives in threads.

`GrpcTarget` describes a server as the bootstrap knows it; `GrpcTransport.open` makes one attempt at a stream. Nothing
here knows what the messages mean or when to try again.

Theory of operation. Each attempt gets a channel of its own: the root certificates and the token are read afresh, the
dial happens now (a channel that failed keeps its own, process-wide back-off, which would sit under ours) and the old
connection's fate cannot touch it. grpcio reads requests from an iterator in a thread of its own, which blocks in our
queue until it is given a sentinel, so an attempt always ends with one; and it yields responses to a reader thread, which
hands each to trio and waits until it was taken, so that a slow consumer reaches HTTP/2 flow control. All ways out go
through `GrpcStream.close`: it cancels the call, which wakes the reader; it feeds the sentinel; it closes the trio side,
which wakes a reader that waits to hand over. The reader is a daemon, as grpcio's threads are: an interpreter that exits
waits for nobody.
"""

import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
import trio
from grpc import _common

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.max_pings_without_data", 0),  # 0: no limit; the default stops pinging an idle stream
    ("grpc.keepalive_permit_without_calls", 0),  # istiod answers such pings with GOAWAY too_many_pings
    ("grpc.use_local_subchannel_pool", 1),  # each attempt dials; the client's jitter is the only back-off
)
_Metadata = tuple[tuple[str, str | bytes], ...]
UNIX_PATH_LIMIT_BYTES = 107
_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class GrpcTarget:
    """Where and how to reach a gRPC service."""

    target: str
    """``host:port``, ``unix:relative/path`` or ``unix:///absolute/path``."""
    tls: bool = False
    tls_root_path: str | None = None
    """PEM file of trusted roots, read at each connect; None: the library's own roots."""
    tls_certificate_path: str | None = None
    tls_key_path: str | None = None
    """Client certificate chain and key, PEM; both or none."""
    server_name: str | None = None
    """Checked against the certificate instead of the target's host."""
    authority: str | None = None
    token_path: str | None = None
    """File whose content is sent as call credentials, read at each connect."""
    token_header: str = "authorization"
    token_prefix: str = "Bearer "
    initial_metadata: tuple[tuple[str, str], ...] = ()
    keepalive_time_s: float = 30.0
    """Between pings. istiod allows one in 15 s."""
    keepalive_timeout_s: float = 10.0
    connect_timeout_s: float = 5.0
    """For the connection with its TLS and HTTP/2 handshakes; the library's own is 20 s."""

    def __repr__(self) -> str:
        return f"<GrpcTarget {self.target}{' tls' if self.tls else ''}>"


class StreamEnded(Exception):
    """The stream is over, or never came to be. `code` is a gRPC status name (``UNAVAILABLE``); OK is an end as well."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}" if details else code)
        self.code = code
        self.details = details


class Stream(Protocol):
    """One open conversation."""

    def send(self, message: bytes) -> None:
        """Queue a message; never blocks. After the end it goes nowhere."""
        ...

    async def receive(self) -> bytes:
        """The next message. Raises StreamEnded."""
        ...


class Transport(Protocol):
    """Makes streams."""

    def open(self, method: str) -> contextlib.AbstractAsyncContextManager[Stream]:
        """Start a call of the bidirectional `method` (``/package.Service/Method``); leaving the context ends it.

        Entering does not wait for the connection: a failure to connect shows at the first `receive`. Raises StreamEnded
        if files cannot be read.
        """
        ...


class GrpcTransport:
    """Streams to one `GrpcTarget`."""

    def __init__(self, target: GrpcTarget) -> None:
        self.target = target

    def __repr__(self) -> str:
        return f"<GrpcTransport {self.target.target}>"

    @contextlib.asynccontextmanager
    async def open(self, method: str) -> AsyncIterator[Stream]:
        channel, metadata = open_channel(self.target)
        stream = GrpcStream(channel, method, metadata)
        try:
            yield stream
        finally:
            stream.close()


class GrpcStream:
    """See `Stream`; made by `GrpcTransport` inside trio."""

    def __init__(self, channel: grpc.Channel, method: str, metadata: _Metadata) -> None:
        self._channel = channel
        self._requests = _Requests()
        multi_callable: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        self._call = multi_callable(self._requests, metadata=metadata)
        self._token = trio.lowlevel.current_trio_token()
        # grpcio wakes who waits for a message ten times a second, so that a main thread hears its signals (grpc issue 19464).
        # Ours waits elsewhere, and an agent that idles should: 10 wake-ups a second are 0.08 % of a core of the 0.2 % that
        # the whole proxy may cost when it idles. There is no public way to say so.
        _common.MAXIMUM_WAIT_TIMEOUT = _WAIT_S
        self._into_trio, self._messages = trio.open_memory_channel[bytes](0)
        threading.Thread(target=self._read, name="ads-reader", daemon=True).start()

    def send(self, message: bytes) -> None:
        self._requests.put(message)

    async def receive(self) -> bytes:
        try:
            return await self._messages.receive()
        except trio.EndOfChannel:
            # The reader closes its end only after the call ended, so its status is there.
            code, details = self._call.code(), self._call.details()
            raise StreamEnded(code.name if code else "UNKNOWN", details or "") from None

    def close(self) -> None:
        self._call.cancel()
        self._requests.close()
        self._messages.close()
        self._channel.close()

    def _read(self) -> None:
        """The reader thread: hand over each response and wait until it was taken."""
        try:
            for message in self._call:
                trio.from_thread.run(self._into_trio.send, message, trio_token=self._token)
        except grpc.RpcError:
            pass  # the call itself says how it ended
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.Cancelled, trio.RunFinishedError):
            pass  # nobody listens any more; the stream is being closed
        finally:
            self._call.cancel()  # however we got here the call has a status now, and `receive` will not wait for one
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._into_trio.close)


class _Requests(Iterator[bytes]):
    """The iterator that grpcio's sending thread reads; `close` ends it (without, that thread would block for ever)."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def put(self, message: bytes) -> None:
        self._queue.put(message)

    def close(self) -> None:
        self._queue.put(None)

    def __next__(self) -> bytes:
        message = self._queue.get()
        if message is None:
            raise StopIteration
        return message


def open_channel(target: GrpcTarget) -> tuple[grpc.Channel, _Metadata]:
    """A channel to `target`, its files read now, and the metadata that calls on it need. Raises StreamEnded."""
    if target.target.startswith("unix:"):
        path = target.target.removeprefix("unix:").removeprefix("//")
        if len(path.encode()) > UNIX_PATH_LIMIT_BYTES:
            raise StreamEnded("UNAVAILABLE", f"unix socket path longer than {UNIX_PATH_LIMIT_BYTES} bytes: {path}")
    options: list[tuple[str, int | str]] = [
        *_OPTIONS,
        ("grpc.keepalive_time_ms", int(target.keepalive_time_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(target.keepalive_timeout_s * 1000)),
        # Without this one a frozen peer is noticed after a minute, whatever the one above says.
        ("grpc.http2.ping_timeout_ms", int(target.keepalive_timeout_s * 1000)),
    ]
    # The library's name for the time that one connection attempt may take.
    options.append(("grpc.min_reconnect_backoff_ms", int(target.connect_timeout_s * 1000)))
    if target.authority is not None:
        options.append(("grpc.default_authority", target.authority))
    metadata: list[tuple[str, str | bytes]] = list(target.initial_metadata)
    if target.token_path is not None:
        token = _read_file(target.token_path, "token").decode("ascii", "replace").strip()
        if not token:
            raise StreamEnded("UNAUTHENTICATED", f"token file {target.token_path} is empty")
        metadata.append((target.token_header, target.token_prefix + token))
    if not target.tls:
        return grpc.insecure_channel(target.target, options=options), tuple(metadata)
    if target.server_name is not None:
        options.append(("grpc.ssl_target_name_override", target.server_name))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read_pem(target.tls_root_path, "root certificates"),
        private_key=_read_pem(target.tls_key_path, "private key"),
        certificate_chain=_read_pem(target.tls_certificate_path, "certificate chain"),
    )
    return grpc.secure_channel(target.target, credentials, options=options), tuple(metadata)


def _read_pem(path: str | None, what: str) -> bytes | None:
    if path is None:
        return None
    pem = _read_file(path, what)
    if b"-----BEGIN " not in pem:  # grpcio takes empty bytes for "use other roots" and says nothing
        raise StreamEnded("UNAVAILABLE", f"{what} file {path} holds no PEM block")
    return pem


def _read_file(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StreamEnded("UNAVAILABLE", f"{what} file {path}: {error.strerror or error}") from None
