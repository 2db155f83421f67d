"""A scenario's HTTP/2 connection to a proxy: what comes back on it goes into the journal."""

from collections.abc import Iterable, Mapping
from typing import Any

from tests.differential.world import HeaderInput, LogLine, World
from tests.support.http2_client import CODES, Http2Client, StreamSeen
from tests.support.upstream import SeenRequest


class Http2Reply:
    """What came on one stream."""

    def __init__(self, world: World, tag: str, seen_back: StreamSeen) -> None:
        self._world = world
        self.tag = tag
        self.stream = seen_back
        self.status = seen_back.status
        self.body = bytes(seen_back.body)
        self.reset = None if seen_back.reset is None else CODES[seen_back.reset]
        self.trailers = seen_back.trailers

    def get(self, name: str) -> str | None:
        return self.stream.get(name)

    @property
    def seen(self) -> SeenRequest:
        """What the upstream saw of this request; the last attempt, if there were several."""
        found = self._world.requests_tagged(self.tag)
        if not found:
            raise AssertionError("no upstream saw the request")
        return found[-1]

    @property
    def log(self) -> LogLine:
        return self._world.log_tagged(self.tag)


class Http2Link:
    """One downstream connection; `raw` is its client."""

    def __init__(self, world: World, listener: str = "http", **options: Any) -> None:
        self._world = world
        self._listener = listener
        self.raw = Http2Client(world.listener_port(listener), **options)
        self._tags: dict[int, str] = {}

    def __enter__(self) -> "Http2Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    def send(
        self,
        method: str = "GET",
        path: str = "/",
        headers: HeaderInput = (),
        body: bytes = b"",
        *,
        end: bool = True,
        trailers: Iterable[tuple[str, str]] = (),
        authority: str = "test",
    ) -> int:
        """Send a request; the id of its stream."""
        tag = self._world.next_tag()
        given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        stream_id = self.raw.request(
            method, path, [("x-case", tag), *given], body, end=end, trailers=trailers, authority=authority
        )
        self._tags[stream_id] = tag
        return stream_id

    def section(self, fields: Iterable[tuple[str, str]], *, end: bool = True) -> int:
        """Send a request of exactly these fields, its tag behind them."""
        tag = self._world.next_tag()
        stream_id = self.raw.next_id()
        self.raw.send(self.raw.section(stream_id, self.raw.block([*fields, ("x-case", tag)]), end=end))
        self._tags[stream_id] = tag
        return stream_id

    def reply(self, stream_id: int, *, logged: bool = True) -> Http2Reply:
        """Wait for the end of a stream and note it."""
        seen = self.raw.finish(stream_id)
        self.note(stream_id)
        if logged:
            self._world.await_log(self._listener)
        return Http2Reply(self._world, self._tags[stream_id], seen)

    def request(self, *arguments: Any, logged: bool = True, **options: Any) -> Http2Reply:
        """`send` and `reply`."""
        return self.reply(self.send(*arguments, **options), logged=logged)

    def note(self, stream_id: int) -> None:
        """Journal what has come on a stream so far."""
        normal = self._world.normal
        seen = self.raw.seen(stream_id)
        reset = None if seen.reset is None else CODES[seen.reset]
        self._world.note(f"stream {stream_id}", f"{seen.status} ended={seen.ended} reset={reset}")
        for line in sorted(normal.header(*pair) for pair in seen.headers):
            self._world.note("  field", line)
        for status in seen.interim:
            self._world.note("  interim", status)
        self._world.note("  body", normal.body(bytes(seen.body)))
        if seen.trailers:
            self._world.note("  trailers", normal.headers(seen.trailers))

    def closes(self, within_s: float = 4.0) -> bool:
        """Whether the proxy ends the connection; GOAWAYs before that are in `raw.goaways`."""
        self.raw.read_until(lambda: False, within_s)
        self._world.note("closed", self.raw.closed)
        return self.raw.closed
