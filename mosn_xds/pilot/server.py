"""The Pilot over real gRPC: `AggregatedDiscoveryService` and `SecretDiscoveryService`, both variants, one `Session` a stream;
and `IstioCertificateService`, where it is given an authority.

grpcio's server is threads; each open stream holds one of its pool. A stream's thread sleeps on one queue that requests,
changes and the end of the stream all arrive in, so a session is never entered twice at once.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from mosn_xds.pilot.authority import CertificateService, KeyPair, Refused
from mosn_xds.pilot.resources import Change, ResourceSet
from mosn_xds.pilot.session import Nack, Session, Variant
from mosn_xds.xds.ca import CREATE_CERTIFICATE
from mosn_xds.xds.messages import type_label

_log = logging.getLogger("mosn_xds.pilot")

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_SECRETS = "envoy.service.secret.v3.SecretDiscoveryService"
_METHODS = {
    f"/{_SERVICE}/StreamAggregatedResources": Variant.SOTW,
    f"/{_SERVICE}/DeltaAggregatedResources": Variant.DELTA,
    f"/{_SECRETS}/StreamSecrets": Variant.SOTW,
    f"/{_SECRETS}/DeltaSecrets": Variant.DELTA,
}
_MAX_STREAMS = 64
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a taken port must be an error, not a silent second server
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.min_ping_interval_without_data_ms", 15_000),
)


class Pilot:
    """An ADS server for `resources` at `address` (``host:port``, port 0 for any; or ``unix:PATH``).

    With `tls` (PEM chain and key) it speaks TLS; `certificates` signs what workloads ask for. `port` is the bound port;
    `nacks` collects what clients refused, newest last.
    """

    def __init__(
        self,
        resources: ResourceSet,
        address: str = "127.0.0.1:0",
        *,
        tls: KeyPair | None = None,
        certificates: CertificateService | None = None,
    ) -> None:
        self.resources = resources
        self._certificates = certificates
        self.nacks: list[Nack] = []
        self._sessions: set[Session] = set()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._server = grpc.server(ThreadPoolExecutor(_MAX_STREAMS, thread_name_prefix="pilot"), options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_Handler(self),))
        try:
            if tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                credentials = grpc.ssl_server_credentials([(tls.key, tls.chain)])
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from None
        self._server.start()

    def __repr__(self) -> str:
        return f"<Pilot :{self.port} {len(self._sessions)} streams {self.resources!r}>"

    def stop(self) -> None:
        """End all streams; returns when they are gone."""
        self._server.stop(grace=None).wait()

    @property
    def sessions(self) -> list[Session]:
        """The open streams."""
        with self._lock:
            return list(self._sessions)

    def wait_for(self, condition: "Callable[[Pilot], bool]", timeout_s: float) -> bool:
        """Wait until ``condition(self)`` holds; it is asked again after every request of a client."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout_s)

    def _refused(self, nack: Nack) -> None:
        _log.warning("%s refused %s %s: %s", nack.node_id, type_label(nack.type_url), nack.version, nack.message)
        self.nacks.append(nack)

    def _create_certificate(self, raw: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        token = str(metadata.get("authorization", "")).removeprefix("Bearer ")
        try:
            if self._certificates is None:
                raise Refused("UNIMPLEMENTED", "there is no certificate authority here")
            return self._certificates.create(raw, token)
        except Refused as error:
            context.abort(grpc.StatusCode[error.code], str(error))
        return b""

    def _stream(self, variant: Variant, requests: Iterable[bytes], context: Any) -> Iterator[bytes]:
        inbox: queue.SimpleQueue[bytes | list[Change] | None] = queue.SimpleQueue()
        # Without the callback a stream that waits here would keep the process from exiting.
        if not context.add_callback(lambda: inbox.put(None)):
            return

        def read() -> None:
            try:
                for raw in requests:
                    inbox.put(raw)
            except grpc.RpcError:
                pass  # The client went away: the end of the stream says so.
            inbox.put(None)

        session = Session(variant, self.resources, self._refused)
        threading.Thread(target=read, daemon=True).start()
        self.resources.listen(inbox.put)
        with self._lock:
            self._sessions.add(session)
        try:
            while (item := inbox.get()) is not None:
                yield from session.request(item) if isinstance(item, bytes) else session.changed(item)
                with self._changed:
                    self._changed.notify_all()
        finally:
            self.resources.forget(inbox.put)
            with self._changed:
                self._sessions.discard(session)
                self._changed.notify_all()


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, pilot: Pilot) -> None:
        self._pilot = pilot

    def service(self, details: Any) -> Any:
        pilot = self._pilot
        if details.method == CREATE_CERTIFICATE:
            return grpc.unary_unary_rpc_method_handler(pilot._create_certificate)
        variant = _METHODS.get(details.method)
        if variant is None:
            return None
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: pilot._stream(variant, requests, context)
        )
