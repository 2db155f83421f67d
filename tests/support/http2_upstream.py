"""HTTP/2 servers (prior knowledge) that do as a test says and remember exactly what they were sent.

The counterpart of upstream.py: an `Http2Upstream` answers each request with the next step of its script, then with its
default. A step is a function of the `Http2Exchange` that runs in a thread of its own, so that several streams of one
connection are answered side by side, and any misbehaviour is a few lines: late, in pieces, before the body, never; RST,
GOAWAY, SETTINGS, credit held back. What h2 would not send goes out as raw frames.
"""

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame, PingFrame

from tests.support.client import Headers
from tests.support.server import PeerGone, Stream
from tests.support.upstream import SeenRequest, Upstream

Http2Step = Callable[["Http2Exchange"], None]
"""Answers one request."""

_STEP_TIMEOUT_S = 10.0


class Http2Link:
    """One connection of the proxy to an `Http2Upstream`. `resets` maps streams to the codes that the proxy reset them with,
    `goaways` holds the codes of its GOAWAYs, `pings` how many PINGs came."""

    def __init__(self, upstream: "Http2Upstream", sock: socket.socket, number: int) -> None:
        self.upstream = upstream
        self.number = number
        self.socket = sock
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        config = h2.config.H2Configuration(
            client_side=False, header_encoding="latin-1", validate_inbound_headers=False, validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )  # fmt: skip
        self.state = h2.connection.H2Connection(config)
        self.exchanges: dict[int, Http2Exchange] = {}
        self.resets: dict[int, int] = {}
        self.goaways: list[int] = []
        self.pings = 0
        self.gone = False

    def __repr__(self) -> str:
        return f"<Http2Link {self.number} of {self.upstream.name}, {len(self.exchanges)} streams>"

    def flush(self) -> None:
        """Send what h2 has made. Raises PeerGone."""
        data = self.state.data_to_send()
        if data:
            self.send_raw(data)

    def send_raw(self, data: bytes) -> None:
        """Exactly these bytes, between frames. Raises PeerGone."""
        with self.lock:
            try:
                self.socket.sendall(data)
            except OSError as error:
                raise PeerGone from error

    def goaway(self, last_stream_id: int, code: int = 0) -> None:
        """Announce that no stream above this one was or will be processed; h2 itself would then refuse to go on."""
        frame = GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code)
        self.send_raw(frame.serialize())

    def settings(self, **values: int) -> None:
        """Change our settings: ``max_concurrent_streams=1``."""
        with self.lock:
            self.state.update_settings({SettingCodes[name.upper()]: value for name, value in values.items()})
            self.flush()

    def ping_ack(self, payload: bytes) -> None:
        frame = PingFrame(0, opaque_data=payload, flags=["ACK"])
        self.send_raw(frame.serialize())

    def close(self) -> None:
        """End the connection with FIN."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Http2Exchange:
    """One request while it is answered. `hold_credit` keeps the window shut for its body until `take_body`."""

    def __init__(self, link: Http2Link, stream_id: int, request: SeenRequest) -> None:
        self.link = link
        self.upstream = link.upstream
        self.stream_id = stream_id
        self.request = request
        self.hold_credit = link.upstream.hold_credit
        self.held = 0

    def _wait(self, condition: Callable[[], bool], timeout_s: float = _STEP_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        with self.link.changed:
            while not condition():
                if self.link.gone or time.monotonic() > deadline:
                    raise PeerGone
                self.link.changed.wait(0.05)

    def read_body(self) -> None:
        """Wait until the request is complete. Raises PeerGone when the proxy resets it instead."""
        self._wait(lambda: self.request.complete or self.stream_id in self.link.resets)
        if not self.request.complete:
            raise PeerGone

    def wait_body(self, count: int) -> None:
        """Wait until so many bytes of the body have come."""
        self._wait(lambda: len(self.request.body) >= count or self.request.complete)

    def wait_reset(self) -> int:
        """Wait until the proxy resets the stream; returns the code."""
        self._wait(lambda: self.stream_id in self.link.resets)
        return self.link.resets[self.stream_id]

    def take_body(self) -> None:
        """Give the credit back that was held, and hold none from now on."""
        with self.link.lock:
            self.hold_credit = False
            held, self.held = self.held, 0
            if held:
                self.link.state.acknowledge_received_data(held, self.stream_id)
                self.link.flush()

    def headers(self, status: int, headers: Sequence[tuple[str, str]] = (), *, end: bool = False) -> None:
        """A response head, 1xx or final."""
        self._send([(":status", str(status)), *headers], end)

    def trailers(self, headers: Sequence[tuple[str, str]]) -> None:
        self._send(list(headers), True)

    def _send(self, fields: list[tuple[str, str]], end: bool) -> None:
        with self.link.lock:
            try:
                self.link.state.send_headers(self.stream_id, fields, end_stream=end)
            except h2.exceptions.ProtocolError as error:
                raise PeerGone from error
            self.link.flush()

    def data(self, data: bytes, *, end: bool = False) -> None:
        """Body bytes, as the proxy's windows allow; waits for credit. Raises PeerGone if the stream ends meanwhile."""
        view = memoryview(data)
        state = self.link.state
        while True:
            with self.link.changed:
                if self.link.gone or self.stream_id in self.link.resets:
                    raise PeerGone
                try:
                    room = min(state.local_flow_control_window(self.stream_id), state.max_outbound_frame_size)
                    part = view[: max(0, room)]
                    if part or not view:
                        view = view[len(part) :]
                        state.send_data(self.stream_id, bytes(part), end_stream=end and not view)
                        self.link.flush()
                        if not view:
                            return
                        continue
                except h2.exceptions.ProtocolError as error:
                    raise PeerGone from error
                self.link.changed.wait(0.05)

    def reset(self, code: int = ErrorCodes.INTERNAL_ERROR) -> None:
        """RST_STREAM."""
        with self.link.lock, contextlib.suppress(h2.exceptions.ProtocolError):
            self.link.state.reset_stream(self.stream_id, code)
            self.link.flush()


def answer(
    status: int = 200,
    body: bytes | None = None,
    headers: Sequence[tuple[str, str]] = (),
    *,
    trailers: Sequence[tuple[str, str]] = (),
    delay_s: float = 0.0,
    early: bool = False,
    informational: Sequence[int] = (),
) -> Http2Step:
    """A whole response. `body` None is the upstream's name, ``b""`` ends with the head (or the trailers); `early` answers
    before the request is complete, as `informational` statuses always are."""

    def step(exchange: Http2Exchange) -> None:
        for code in informational:
            exchange.headers(code, [("x-interim", str(code))])
        if not early:
            exchange.read_body()
        exchange.upstream.pause(delay_s)
        content = f"{exchange.upstream.name}\n".encode() if body is None else body
        bodiless = not content or exchange.request.method == "HEAD"
        exchange.headers(status, [*headers, ("x-upstream", exchange.upstream.name)], end=bodiless and not trailers)
        if not bodiless:
            exchange.data(content, end=not trailers)
        if trailers:
            exchange.trailers(trailers)

    return step


def trailers_only(*fields: tuple[str, str]) -> Http2Step:
    """How a gRPC server refuses: one HEADERS frame, with the status, that ends the stream."""

    def step(exchange: Http2Exchange) -> None:
        exchange.headers(200, [("content-type", "application/grpc"), *fields], end=True)

    return step


def refuse(code: int = ErrorCodes.REFUSED_STREAM, *, read_body: bool = False) -> Http2Step:
    """RST_STREAM instead of a response."""

    def step(exchange: Http2Exchange) -> None:
        if read_body:
            exchange.read_body()
        exchange.reset(code)

    return step


def hang() -> Http2Step:
    """Never answer; wait until the proxy gives the stream up."""

    def step(exchange: Http2Exchange) -> None:
        exchange.wait_reset()

    return step


class Http2Upstream(Upstream):
    """An HTTP/2 server. `requests` holds what it saw in order of arrival: pseudo headers are method and path, and
    ``:scheme`` and ``:authority`` stand among the headers. `settings` is what the first SETTINGS says; with
    `hold_credit` no body gets further than its window until its step takes it."""

    def __init__(
        self,
        name: str,
        host: str = "127.0.0.1",
        port: int = 0,
        default: Http2Step | None = None,
        *,
        settings: Mapping[str, int] | None = None,
        hold_credit: bool = False,
    ) -> None:
        self.hold_credit = hold_credit
        self.links: list[Http2Link] = []
        self._settings = dict(settings or {})
        self._steps: deque[Http2Step] = deque()
        self._otherwise = default or answer()
        super().__init__(name, host, port)

    def script(self, *steps: Any) -> None:
        """These steps answer the next requests, one each."""
        with self._lock:
            self._steps.extend(steps)

    def forget(self) -> None:
        with self._lock:
            super().forget()
            self._steps.clear()
            self.links[:] = [link for link in self.links if not link.gone]

    @property
    def link(self) -> Http2Link:
        """The connection that was made last."""
        return self.links[-1]

    def wait_link(self, count: int = 1) -> Http2Link:
        """The connection made last, once there have been `count`."""
        if not self.wait_until(lambda: len(self.links) >= count):
            raise TimeoutError(f"{self!r} has {len(self.links)} connections, not {count}")
        return self.links[-1]

    def serve(self, stream: Stream, number: int) -> None:
        link = Http2Link(self, stream.socket, number)
        with self.changed:
            self.links.append(link)
        with link.lock:
            if self._settings:
                named = {SettingCodes[name.upper()]: value for name, value in self._settings.items()}
                link.state.local_settings = h2.settings.Settings(client=False, initial_values=named)
            link.state.initiate_connection()
            link.flush()
        try:
            while True:
                data = stream.some()
                with link.changed:
                    for event in link.state.receive_data(data):
                        self._on_event(link, event)
                    link.flush()
                    link.changed.notify_all()
        except h2.exceptions.ProtocolError:
            with contextlib.suppress(PeerGone):
                link.flush()
        finally:
            with link.changed:
                link.gone = True
                link.changed.notify_all()

    def _on_event(self, link: Http2Link, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._begin(link, event)
        elif isinstance(event, h2.events.DataReceived):
            exchange = link.exchanges[event.stream_id]
            exchange.request.body += event.data
            exchange.request.chunks.append(len(event.data))
            if exchange.hold_credit:
                exchange.held += event.flow_controlled_length
            elif event.flow_controlled_length:
                link.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            link.exchanges[event.stream_id].request.trailers = _text(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            link.exchanges[event.stream_id].request.complete = True
        elif isinstance(event, h2.events.StreamReset):
            if event.stream_id is not None:
                link.resets[event.stream_id] = int(event.error_code or 0)
        elif isinstance(event, h2.events.ConnectionTerminated):
            link.goaways.append(int(event.error_code or 0))
        elif isinstance(event, h2.events.PingReceived):
            link.pings += 1

    def _begin(self, link: Http2Link, event: h2.events.RequestReceived) -> None:
        fields = _text(event.headers or [])
        pseudo = dict(field for field in fields if field[0].startswith(":"))
        rest = [field for field in fields if field[0] not in (":method", ":path")]
        method, path = pseudo.get(":method", ""), pseudo.get(":path", "")
        request = SeenRequest(method, path, "HTTP/2", rest, link.number, time.monotonic())
        stream_id = event.stream_id or 0
        exchange = link.exchanges[stream_id] = Http2Exchange(link, stream_id, request)
        with self.changed:
            self.requests.append(request)
            step = self._steps.popleft() if self._steps else self._otherwise
            self.changed.notify_all()
        threading.Thread(target=self._answer, args=(step, exchange), daemon=True).start()

    @staticmethod
    def _answer(step: Http2Step, exchange: Http2Exchange) -> None:
        with contextlib.suppress(PeerGone):
            step(exchange)


def _text(headers: Any) -> Headers:
    return [(str(name), str(value)) for name, value in headers]
