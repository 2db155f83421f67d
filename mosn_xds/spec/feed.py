"""The messages between the agent and a worker, and their framing on a unix stream socket.

A frame is four bytes of length (big-endian) and a msgpack message; descriptors travel as SCM_RIGHTS with the first byte
of the frame that names them (`Sockets`). One generation is in flight per worker: `Put`s and `Drop`s, then `Publish`; the
worker swaps and answers `Applied`. A worker reports statistics every second and at exit.
"""

from enum import Enum, IntEnum

import msgspec

from mosn_xds.base.stats import StatChange, StatKind
from mosn_xds.spec.histogram_buckets import BucketRule
from mosn_xds.spec.snapshot import Item, Kind


class DrainStrategy(IntEnum):
    GRADUAL = 0
    IMMEDIATE = 1


class Http2Library(Enum):
    """Who runs HTTP/2's state machine; the value is what the environment's ``MOSN_XDS_HTTP2`` may say."""

    NGH2 = "ngh2"
    H2 = "h2"


class Message(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Base of the feed's messages."""


class Configure(Message, frozen=True, tag="configure"):
    """First message to a worker: who it is and the process-wide settings.

    The descriptor of the limit table (see `mosn_xds.base.limits`) rides along when `limits_fd` is true.
    """

    worker: int
    concurrency: int
    node_id: str = ""
    node_cluster: str = ""
    drain_time_s: float = 600.0
    drain_strategy: DrainStrategy = DrainStrategy.GRADUAL
    log_flush_interval_s: float = 10.0
    limits_fd: bool = False
    local_address_v6: bool = False
    """Of which kind the address is that stands in x-forwarded-for for a loopback peer."""
    histogram_buckets: tuple[BucketRule, ...] = ()
    http2: Http2Library = Http2Library.NGH2


class Sockets(Message, frozen=True, tag="sockets"):
    """Bound sockets of one listener, a descriptor for each address in order; replaces those given before for that name.

    Some of them may be the same sockets as before.

    While the worker stands in for siblings that are missing, a round of descriptors for each of them follows its own.
    Sent before the `Put` that needs them; for a listener that serves on this `socket_uid` already, they take effect at once.
    """

    listener: str
    socket_uid: bytes


class LimitRows(Message, frozen=True, tag="limit_rows"):
    """Rows of the shared limit table by key; sent before the Specs that need them. None: the key needs none any more."""

    rows: dict[str, int | None]


class Put(Message, frozen=True, tag="put"):
    """Add or replace one Spec in the generation being built."""

    item: Item


class Drop(Message, frozen=True, tag="drop"):
    kind: Kind
    name: str


class Publish(Message, frozen=True, tag="publish"):
    """The generation is complete: swap to it."""

    generation: int


class DrainListeners(Message, frozen=True, tag="drain_listeners"):
    """`/drain_listeners`: connections get `Connection: close`; unless `graceful`, listeners close at once."""

    inbound_only: bool = False
    graceful: bool = False


class SetHealthFailed(Message, frozen=True, tag="health"):
    """`/healthcheck/fail` and `ok`: draining replies while failed."""

    failed: bool


class Shutdown(Message, frozen=True, tag="shutdown"):
    """SIGTERM: go on accepting, close each connection after its response, exit once idle or after `limit_s`."""

    limit_s: float
    idle_s: float = 1.0


class ReopenLogs(Message, frozen=True, tag="reopen_logs"):
    pass


class SetLogLevel(Message, frozen=True, tag="log_level"):
    """`logger` empty: all of them."""

    logger: str
    level: str


class Ping(Message, frozen=True, tag="ping"):
    """Answered by Pong with the same id; a worker silent for 10 s is replaced."""

    id: int


ToWorker = (
    Configure
    | Sockets
    | LimitRows
    | Put
    | Drop
    | Publish
    | DrainListeners
    | SetHealthFailed
    | Shutdown
    | ReopenLogs
    | SetLogLevel
    | Ping
)


class Ready(Message, frozen=True, tag="ready"):
    """The worker runs and can be fed."""

    pid: int


class Applied(Message, frozen=True, tag="applied"):
    generation: int


class Refused(Message, frozen=True, tag="refused"):
    """A defect of ours: the agent accepted what the worker cannot build. The last good stays."""

    kind: Kind
    name: str
    uid: bytes
    reason: str


class StatReport(Message, frozen=True, tag="stats"):
    """A portion of what has changed; `kinds` are those that the worker's reports have not named before.

    `complete`: with this, the worker has told of every group that its first generation made.
    """

    changes: list[StatChange]
    kinds: list[StatKind] = []
    complete: bool = False


class HostStat(msgspec.Struct, gc=False, array_like=True):
    """Absolute figures of one upstream host in one worker, for `/clusters`."""

    cluster: str
    address: str
    counters: dict[str, int]


class HostReport(Message, frozen=True, tag="hosts"):
    """Hosts whose figures changed since the last report."""

    hosts: list[HostStat]


class Draining(Message, frozen=True, tag="draining"):
    """Listeners that still have draining connections, by name with their count; empty when none."""

    listeners: dict[str, int]


class Pong(Message, frozen=True, tag="pong"):
    id: int


class Drained(Message, frozen=True, tag="drained"):
    """Shutdown is done: nothing is active; the worker exits."""


FromWorker = Ready | Applied | Refused | StatReport | HostReport | Draining | Pong | Drained

HEADER_BYTES = 4
MAX_FRAME_BYTES = 1 << 30

_encoder = msgspec.msgpack.Encoder()


def frame(message: ToWorker | FromWorker) -> bytes:
    """One message as it stands on the socket."""
    body = _encoder.encode(message)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class FrameReader:
    """Bytes in, whole message bodies out. Raises `ValueError` for a length that no message of ours has."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        buffer = self._buffer
        buffer += data
        bodies = []
        at = 0
        while len(buffer) - at >= HEADER_BYTES:
            length = int.from_bytes(buffer[at : at + HEADER_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"feed frame of {length} bytes")
            if len(buffer) - at - HEADER_BYTES < length:
                break
            bodies.append(bytes(buffer[at + HEADER_BYTES : at + HEADER_BYTES + length]))
            at += HEADER_BYTES + length
        del buffer[:at]
        return bodies
