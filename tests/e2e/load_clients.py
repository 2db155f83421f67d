"""Clients that hold connections while a proxy changes under them, and that tell exactly what went wrong and when.

`Callers` are a few keep-alive connections that ask again and again; `IdlePool` holds connections that ask seldom, as an
application's pool does; `WebSocketClient` keeps one upgraded connection talking; `Dialer` opens a new connection for each
request. Each runs in a thread of its own. A connection that the proxy ends as HTTP allows (behind a response that said so, or
while nothing was asked) is opened again and is no failure; a request without its whole answer is one.
"""

import contextlib
import selectors
import socket
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from tests.support.client import BadResponse, Connection
from tests.support.proxies import Proxy

REQUEST = b"GET / HTTP/1.1\r\nhost: load\r\n\r\n"


@dataclass
class Failure:
    """What went wrong, and when (`time.monotonic`)."""

    at_s: float
    what: str
    local_port: int = 0


class Client(ABC):
    """Runs in a thread between `start` and `stop`, or as a context."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers = 0
        self.failures: list[Failure] = []
        self.times: list[tuple[float, float]] = []
        """(when asked, seconds until the whole answer)."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} :{self.port} {self.answers} answers, {len(self.failures)} failures>"

    def __enter__(self) -> "Client":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended."""
        self._stopping.set()
        self._thread.join(15)

    def latencies_ms(self, since_s: float = 0.0, until_s: float = float("inf")) -> list[float]:
        """Of what was asked in that time."""
        return [took * 1000 for at, took in self.times if since_s <= at < until_s]

    @abstractmethod
    def _run(self) -> None: ...

    def _fail(self, what: str, local_port: int = 0) -> None:
        self.failures.append(Failure(time.monotonic(), what, local_port))


@dataclass
class _Caller:
    """One connection of `Callers`."""

    sock: socket.socket
    port: int
    asked_s: float = 0.0
    received: bytearray = field(default_factory=bytearray)
    asking: bool = False
    answered: int = 0


class Callers(Client):
    """So many keep-alive connections, each asking again `pause_s` after its answer, in one thread."""

    def __init__(self, port: int, connections: int = 8, *, pause_s: float = 0.002) -> None:
        super().__init__(port)
        self.connections = connections
        self.reconnects = 0
        self.generations: set[bytes] = set()
        """The route tables that answers came from."""
        self._pause_s = pause_s
        self._selector = selectors.DefaultSelector()
        self._waiting: list[tuple[float, _Caller]] = []

    def _run(self) -> None:
        for _ in range(self.connections):
            self._open()
        while not self._stopping.is_set() or any(key.data.asking for key in self._selector.get_map().values()):
            for key, _ in self._selector.select(0.001):
                self._read(key.data)
            now = time.monotonic()
            due = [caller for at, caller in self._waiting if at <= now]
            self._waiting = [(at, caller) for at, caller in self._waiting if at > now]
            if not self._stopping.is_set():
                for caller in due:
                    self._ask(caller)
        for key in list(self._selector.get_map().values()):
            key.data.sock.close()
        self._selector.close()

    def _open(self) -> None:
        started_s = time.monotonic()
        try:
            sock = socket.create_connection(("127.0.0.1", self.port), 5)
        except OSError as error:
            self._fail(f"connect: {error!r}")
            if not self._stopping.is_set():
                time.sleep(0.02)
                self._open()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(0)
        caller = _Caller(sock, sock.getsockname()[1])
        self._selector.register(sock, selectors.EVENT_READ, caller)
        self._ask(caller, started_s)

    def _ask(self, caller: _Caller, started_s: float | None = None) -> None:
        if caller.sock.fileno() < 0:
            return
        caller.asking = True
        caller.asked_s = started_s or time.monotonic()
        try:
            caller.sock.send(REQUEST)
        except OSError as error:
            self._fail(f"send: {error!r} after {caller.answered} answers", caller.port)
            self._close(caller)

    def _close(self, caller: _Caller) -> None:
        self._selector.unregister(caller.sock)
        caller.sock.close()
        caller.asking = False
        if not self._stopping.is_set():
            self.reconnects += 1
            self._open()

    def _read(self, caller: _Caller) -> None:
        try:
            data = caller.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            if caller.asking:
                self._fail(f"receive: {error!r} after {caller.answered} answers", caller.port)
            self._close(caller)
            return
        if not data:
            if caller.asking:
                at = f"{len(caller.received)} bytes into answer {caller.answered + 1}"
                self._fail(f"closed {at}", caller.port)
            self._close(caller)
            return
        caller.received += data
        head, mark, rest = caller.received.partition(b"\r\n\r\n")
        if not mark:
            return
        fields = dict(line.lower().split(b": ", 1) for line in bytes(head).split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", b"0"))
        if len(rest) < length:
            return
        self._answered(caller, bytes(head), fields)

    def _answered(self, caller: _Caller, head: bytes, fields: dict[bytes, bytes]) -> None:
        now = time.monotonic()
        caller.received.clear()
        caller.asking = False
        caller.answered += 1
        self.answers += 1
        self.times.append((caller.asked_s, now - caller.asked_s))
        if not head.startswith(b"HTTP/1.1 200"):
            self._fail(head.split(b"\r\n", 1)[0].decode(), caller.port)
        generation = fields.get(b"x-route-generation", b"")
        self.generations.add(generation)
        if fields.get(b"x-seen-generation", generation) != generation:
            self._fail(f"one request, two route tables: {fields}", caller.port)
        if fields.get(b"connection") == b"close":
            self._close(caller)
        else:
            self._waiting.append((now + self._pause_s, caller))


class IdlePool(Client):
    """Connections that are open and ask once in `interval_s`; one that was closed while idle is opened again."""

    def __init__(self, port: int, connections: int = 4, *, interval_s: float = 0.7) -> None:
        super().__init__(port)
        self._count = connections
        self._interval_s = interval_s
        self.reopened = 0
        self.closed_idle = 0

    def _run(self) -> None:
        pool: list[Connection | None] = [None] * self._count
        turn = 0
        while not self._stopping.wait(self._interval_s / self._count):
            pool[turn] = self._use(pool[turn])
            turn = (turn + 1) % self._count
        for connection in pool:
            if connection is not None:
                connection.close()

    def _use(self, connection: Connection | None) -> Connection | None:
        try:
            if connection is not None and _is_closed(connection):
                self.closed_idle += 1
                if connection.was_reset:
                    self._fail("idle connection reset", connection.local_port)
                connection.close()
                connection = None
            if connection is None:
                self.reopened += 1
                connection = Connection(self.port)
            asked_s = time.monotonic()
            connection.send(REQUEST)
            response = connection.read_response()
        except (OSError, BadResponse) as error:
            self._fail(repr(error), connection.local_port if connection is not None else 0)
            if connection is not None:
                connection.close()
            return None
        self.answers += 1
        self.times.append((asked_s, time.monotonic() - asked_s))
        if response.status != 200 or not response.complete:
            self._fail(f"{response.status} {response.body!r}", connection.local_port)
        if response.get("connection") == "close":
            connection.close()
            return None
        return connection


def _is_closed(connection: Connection) -> bool:
    return connection.closes_within(0.001)


class WebSocketClient(Client):
    """One upgraded connection that echoes a counter every `interval_s`; it must never end."""

    def __init__(self, port: int, *, interval_s: float = 0.05, path: str = "/ws") -> None:
        super().__init__(port)
        self._interval_s = interval_s
        self._path = path

    def _run(self) -> None:
        try:
            with Connection(self.port) as connection:
                head = f"GET {self._path} HTTP/1.1\r\nhost: load\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
                connection.send(head.encode())
                response = connection.read_response()
                if response.status != 101:
                    self._fail(f"no upgrade: {response.status} {response.body!r}", connection.local_port)
                    return
                while not self._stopping.wait(self._interval_s):
                    sent = b"%08d" % self.answers
                    asked_s = time.monotonic()
                    connection.send(sent)
                    if (echoed := connection.read_exactly(8)) != sent:
                        self._fail(f"sent {sent!r}, echoed {echoed!r}", connection.local_port)
                        return
                    self.answers += 1
                    self.times.append((asked_s, time.monotonic() - asked_s))
        except (OSError, BadResponse) as error:
            self._fail(repr(error))


class Dialer(Client):
    """A new connection for each request, one at a time; the time includes connecting."""

    def __init__(self, port: int, *, pause_s: float = 0.005) -> None:
        super().__init__(port)
        self._pause_s = pause_s

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_s):
            asked_s = time.monotonic()
            local_port = 0
            try:
                with contextlib.closing(Connection(self.port, timeout_s=10)) as connection:
                    local_port = connection.local_port
                    connection.send(REQUEST)
                    status = connection.read_response().status
                if status != 200:
                    self._fail(str(status), local_port)
                self.answers += 1
            except (OSError, BadResponse) as error:
                self._fail(repr(error), local_port)
            self.times.append((asked_s, time.monotonic() - asked_s))


class ReadinessWatch(Client):
    """Asks `/ready` again and again, as a kubelet does."""

    def __init__(self, proxy: Proxy, *, interval_s: float = 0.05) -> None:
        super().__init__(proxy.admin_port)
        self._proxy = proxy
        self._interval_s = interval_s

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            asked_s = time.monotonic()
            try:
                status, text = self._proxy.admin("/ready", timeout_s=10)
            except OSError as error:
                self._fail(repr(error))
                continue
            self.times.append((asked_s, time.monotonic() - asked_s))
            self.answers += 1
            if status != 200:
                self._fail(f"{status} {text}")


class CounterWatch(Client):
    """Reads the admin API's counters again and again; one that falls is a failure, as a graph would show a reset."""

    def __init__(self, proxy: Proxy, *, interval_s: float = 0.1) -> None:
        super().__init__(proxy.admin_port)
        self._proxy = proxy
        self._interval_s = interval_s
        self.highest: dict[str, float] = {}

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            asked_s = time.monotonic()
            try:
                status, text = self._proxy.admin("/stats/prometheus")
            except OSError as error:
                self._fail(repr(error))
                continue
            self.times.append((asked_s, time.monotonic() - asked_s))
            self.answers += 1
            if status != 200:
                self._fail(f"/stats/prometheus answers {status}")
                continue
            for name, value in _counters(text).items():
                before = self.highest.get(name, 0.0)
                if value < before:
                    self._fail(f"{name} falls from {before:g} to {value:g}")
                self.highest[name] = value


def _counters(text: str) -> dict[str, float]:
    """What a Prometheus page says of counters, and of histograms' counts, sums and buckets, which only grow as well."""
    counters: set[str] = set()
    histograms: set[str] = set()
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if kind == "counter":
                counters.add(name)
            elif kind == "histogram":
                histograms.add(name)
        elif line and not line.startswith("#"):
            sample, _, value = line.rpartition(" ")
            name = sample.partition("{")[0]
            base, _, suffix = name.rpartition("_")
            if name in counters or (base in histograms and suffix in ("bucket", "count", "sum")):
                found[sample] = float(value)
    return found
