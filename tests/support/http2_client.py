"""An HTTP/2 client that sends exactly the frames it is given and remembers exactly what came back.

No library stands between a test and the wire but HPACK's tables: what RFC 9113 forbids is as easy to send as what it wants.
SETTINGS are acknowledged, PINGs answered and windows refilled as they come, unless a test says otherwise.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_TIMEOUT_S = 8.0
_FRAME_BYTES = 16384


class Kind(IntEnum):
    """Frame types (RFC 9113 section 6)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntFlag):
    """Frame flags."""

    NONE = 0
    END_STREAM = 1
    ACK = 1
    END_HEADERS = 4
    PADDED = 8
    PRIORITY = 0x20


CODES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """One frame as it came."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    def __repr__(self) -> str:
        name = Kind(self.kind).name if self.kind in Kind._value2member_map_ else str(self.kind)
        return f"<{name} {self.stream_id} flags={self.flags:#x} {len(self.payload)} bytes>"


@dataclass
class StreamSeen:
    """What came on one stream. `heads` are the header sections in order, interim responses included; `reset` is a code."""

    heads: list[list[tuple[str, str]]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        """That of the final response."""
        for head in self.heads:
            code = int(dict(head).get(":status", "0"))
            if code >= 200:
                return code
        return None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Of the final response, without `:status`."""
        for head in self.heads:
            if int(dict(head).get(":status", "0")) >= 200:
                return [pair for pair in head if pair[0] != ":status"]
        return []

    @property
    def interim(self) -> list[int]:
        """The 1xx statuses."""
        codes = [int(dict(head).get(":status", "0")) for head in self.heads]
        return [code for code in codes if 100 <= code < 200]

    @property
    def trailers(self) -> list[tuple[str, str]]:
        """The section behind the body, if there was one."""
        return next((head for head in self.heads if head and not head[0][0].startswith(":")), [])

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None

    def get(self, name: str) -> str | None:
        return dict(self.headers).get(name)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + (stream_id & 0xFFFFFFFF).to_bytes(4, "big") + payload
    )


def settings_payload(settings: Mapping[int, int]) -> bytes:
    return b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in settings.items())


class Http2Client:
    """One connection. `goaways` are (last stream, code) pairs, `frames` all frames in order, `closed` whether the peer
    has ended the connection."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        settings: Mapping[int, int] | None = None,
        preface: bool = True,
        source: str | None = None,
        refill: bool = True,
        acknowledge: bool = True,
        receive_buffer_bytes: int | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        if sock is None:
            sock = socket.socket()
            if receive_buffer_bytes is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            if source is not None:
                sock.bind((source, 0))
            sock.settimeout(_TIMEOUT_S)
            sock.connect((host, port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.refill = refill
        self.acknowledge = acknowledge
        self.frames: list[Frame] = []
        self.streams: dict[int, StreamSeen] = {}
        self.goaways: list[tuple[int, int]] = []
        self.settings: dict[int, int] = {}
        self.settings_acks = 0
        self.pongs: list[bytes] = []
        self.closed = False
        self.encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._decoder.max_header_list_size = 1 << 20
        self._unread = b""
        self._section = b""
        self._next_id = 1
        if preface:
            self.send(PREFACE + frame(Kind.SETTINGS, 0, 0, settings_payload(settings or {})))

    def __repr__(self) -> str:
        return f"<Http2Client {len(self.streams)} streams{', closed' if self.closed else ''}>"

    def __enter__(self) -> "Http2Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    # Sending.

    def send(self, data: bytes) -> None:
        """Exactly these bytes; a peer that has closed is no error here, the reads tell."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def send_frame(self, kind: int, flags: int, stream_id: int, payload: bytes = b"") -> None:
        self.send(frame(kind, flags, stream_id, payload))

    def block(self, fields: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
        """An HPACK block of these fields."""
        return self.encoder.encode(list(fields))

    def head(
        self,
        method: str = "GET",
        path: str = "/",
        fields: Iterable[tuple[str, str]] = (),
        *,
        authority: str = "test",
        scheme: str = "http",
    ) -> bytes:
        """The block of an ordinary request."""
        pseudo = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]
        return self.block([*pseudo, *fields])

    def section(self, stream_id: int, block: bytes, *, end: bool) -> bytes:
        """HEADERS with this block, and CONTINUATION if it is too large for one frame."""
        parts = [block[at : at + _FRAME_BYTES] for at in range(0, len(block), _FRAME_BYTES)] or [b""]
        out = b""
        for index, part in enumerate(parts):
            flags = Flag.END_HEADERS if index == len(parts) - 1 else Flag.NONE
            if not index and end:
                flags |= Flag.END_STREAM
            out += frame(Kind.CONTINUATION if index else Kind.HEADERS, flags, stream_id, part)
        return out

    def next_id(self) -> int:
        """The next stream of ours."""
        stream_id = self._next_id
        self._next_id += 2
        return stream_id

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        fields: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        end: bool = True,
        trailers: Iterable[tuple[str, str]] = (),
        authority: str = "test",
    ) -> int:
        """Send a request on a new stream and return the stream's id; `end` is whether it is complete."""
        stream_id = self.next_id()
        trailers = list(trailers)
        only_head = end and not body and not trailers
        out = self.section(stream_id, self.head(method, path, fields, authority=authority), end=only_head)
        for at in range(0, len(body), 16384):
            last = end and not trailers and at + 16384 >= len(body)
            out += frame(Kind.DATA, Flag.END_STREAM if last else 0, stream_id, body[at : at + 16384])
        if trailers:
            out += frame(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, stream_id, self.block(trailers))
        self.send(out)
        return stream_id

    def reset(self, stream_id: int, code: int = 8) -> None:
        self.send_frame(Kind.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))

    def give(self, stream_id: int, size: int) -> None:
        """WINDOW_UPDATE."""
        self.send_frame(Kind.WINDOW_UPDATE, 0, stream_id, size.to_bytes(4, "big"))

    # Receiving.

    def read_until(self, enough: Callable[[], bool], timeout_s: float = _TIMEOUT_S) -> bool:
        """Take frames until `enough()`, the connection's end, or the time is over. Returns whether it was enough."""
        deadline = time.monotonic() + timeout_s
        while not enough():
            if self.closed or not self._fill(deadline - time.monotonic()):
                return enough()
        return True

    def read_for(self, seconds: float) -> None:
        """Take what comes in this time, or until the end of the connection."""
        self.read_until(lambda: False, seconds)

    def finish(self, stream_id: int, timeout_s: float = _TIMEOUT_S) -> StreamSeen:
        """Wait for the end of a stream. Raises TimeoutError."""
        if not self.read_until(lambda: self.seen(stream_id).over, timeout_s) and not self.closed:
            raise TimeoutError(f"stream {stream_id} does not end: {self.seen(stream_id)}")
        return self.seen(stream_id)

    def seen(self, stream_id: int) -> StreamSeen:
        return self.streams.setdefault(stream_id, StreamSeen())

    def synchronise(self, timeout_s: float = _TIMEOUT_S) -> bool:
        """Whether the peer answers a PING: then it has dealt with all that was sent before."""
        wanted = len(self.pongs) + 1
        self.send_frame(Kind.PING, 0, 0, b"syncsync")
        return self.read_until(lambda: len(self.pongs) >= wanted, timeout_s)

    def _fill(self, timeout_s: float) -> bool:
        if timeout_s <= 0:
            return False
        self.socket.settimeout(timeout_s)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return False
        self._unread += data
        while len(self._unread) >= 9:
            size = int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < 9 + size:
                break
            kind, flags = self._unread[3], self._unread[4]
            stream_id = int.from_bytes(self._unread[5:9], "big") & 0x7FFFFFFF
            self._take(Frame(kind, flags, stream_id, self._unread[9 : 9 + size]))
            self._unread = self._unread[9 + size :]
        return True

    def _take(self, got: Frame) -> None:
        self.frames.append(got)
        payload = got.payload
        if got.kind in (Kind.HEADERS, Kind.CONTINUATION):
            if got.kind == Kind.HEADERS and got.flags & Flag.PRIORITY:
                payload = payload[5:]
            self._section += payload
            stream = self.seen(got.stream_id)
            if got.kind == Kind.HEADERS and got.flags & Flag.END_STREAM:
                stream.ended = True
            if got.flags & Flag.END_HEADERS:
                fields = self._decoder.decode(self._section, raw=True)
                stream.heads.append([(n.decode("latin-1"), v.decode("latin-1")) for n, v in fields])
                self._section = b""
        elif got.kind == Kind.DATA:
            stream = self.seen(got.stream_id)
            stream.body += payload
            stream.ended |= bool(got.flags & Flag.END_STREAM)
            if self.refill and payload:
                self.give(0, len(payload))
                if not stream.ended:
                    self.give(got.stream_id, len(payload))
        elif got.kind == Kind.RST_STREAM:
            self.seen(got.stream_id).reset = int.from_bytes(payload, "big")
        elif got.kind == Kind.SETTINGS:
            if got.flags & Flag.ACK:
                self.settings_acks += 1
            else:
                for at in range(0, len(payload), 6):
                    self.settings[int.from_bytes(payload[at : at + 2], "big")] = int.from_bytes(
                        payload[at + 2 : at + 6], "big"
                    )
                if self.acknowledge:
                    self.send_frame(Kind.SETTINGS, Flag.ACK, 0)
        elif got.kind == Kind.PING:
            if got.flags & Flag.ACK:
                self.pongs.append(payload)
            elif self.acknowledge:
                self.send_frame(Kind.PING, Flag.ACK, 0, payload)
        elif got.kind == Kind.GOAWAY:
            self.goaways.append((int.from_bytes(payload[:4], "big") & 0x7FFFFFFF, int.from_bytes(payload[4:8], "big")))
