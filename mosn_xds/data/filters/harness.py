"""Try stream filters without a socket, a clock or a proxy: the same harness for ours and for anybody's.

`FilterHarness.request` runs the request phases of a chain as a stream of the connection manager does, and says how far the
request came; `HarnessStream.respond` runs the response phases. Time passes when told (`advance`), chance is a list of
draws, an ``async def`` phase is run by `finish` (if it waits for nothing but what it brings itself) or awaited as
`pending`::

    harness = FilterHarness(NeedToken(NeedToken.Options(header="x-token"), HarnessContext()))
    stream = harness.request(b"GET", b"/")
    assert stream.answer.status == 401
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead, Version
from mosn_xds.data.filters.api import PAUSE, FilterChain, Reply, StreamFilter, Timer, UpstreamCluster
from mosn_xds.data.observe.info import ConnectionInfo, StreamInfo
from mosn_xds.spec.common import Address
from mosn_xds.spec.filters import PerFilter

_CLIENT = Address("192.0.2.1", 40000)
_SERVER = Address("192.0.2.2", 80)


class HarnessContext:
    """The `FilterContext` of the harness: `counters` and `gauges` by name."""

    def __init__(self, stat_prefix: str = "http.test.") -> None:
        self.stat_prefix = stat_prefix
        self.counters: dict[str, int] = {}
        self.gauges: dict[str, int] = {}

    def count(self, name: str, amount: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + amount

    def gauge(self, name: str, amount: int) -> None:
        self.gauges[name] = self.gauges.get(name, 0) + amount


class HarnessTimer:
    """A timer of a `HarnessStream`; it fires in `advance`."""

    def __init__(self, due_s: float, callback: Callable[[], None]) -> None:
        self.due_s = due_s
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class HarnessStream(StreamInfo):
    """A stream that runs through a chain and no further.

    `forwarded` is True once the request would have gone to the router, `answer` is the filter's reply if there was one,
    `paused` while a filter holds the stream. `body` is what of the request body came out of the chain.
    """

    def __init__(
        self, chain: FilterChain, request: RequestHead, connection: ConnectionInfo,
        per_filter: Mapping[str, PerFilter], draws: Sequence[int],
    ) -> None:  # fmt: skip
        super().__init__(connection)
        self.cluster: UpstreamCluster | None = None
        self.chain = chain
        self.request = self.request_head = request
        self.response: ResponseHead | None = None
        self.state: dict[Any, Any] = {}
        self.flags = 0
        self.forwarded = False
        self.ended = False
        self.route_cleared = False
        self.answer: Reply | None = None
        self.pending: Awaitable[Any] | None = None
        self.body = b""
        self.now_s = 0.0
        self._per_filter = per_filter
        self._draws = list(draws)
        self._timers: list[HarnessTimer] = []
        self._body_to_come = b""
        self._resume_at = -1

    @property
    def paused(self) -> bool:
        return self._resume_at >= 0

    # What filters see.

    def filter_config(self, name: str) -> PerFilter | None:
        return self._per_filter.get(name)

    def resume(self) -> None:
        if not self.ended and self._resume_at >= 0:
            at, self._resume_at = self._resume_at, -1
            self._run(at)

    def reply(self, reply: Reply) -> None:
        if not self.ended and self.answer is None:
            self._resume_at = -1
            self.answer = reply
            self.flags |= reply.flags
            self.details = reply.details

    def arm(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        timer = HarnessTimer(self.now_s + delay_s, callback)
        self._timers.append(timer)
        return timer

    def clear_route(self) -> None:
        self.route_cleared = True

    def random_below(self, stop: int) -> int:
        return (self._draws.pop(0) if self._draws else 0) % stop

    def set_metadata(self, namespace: str, key: str, value: object) -> None:
        if self.metadata is None:
            self.metadata = {}
        self.metadata.setdefault(namespace, {})[key] = value

    # What tests do.

    def send(self, body: bytes) -> None:
        """Run the request phases; `body` comes in one piece after the head."""
        self._body_to_come = body
        self._run(0)

    def advance(self, seconds: float) -> None:
        """Let time pass; timers that are due fire in order."""
        self.now_s += seconds
        while due := [timer for timer in self._timers if timer.callback is not None and timer.due_s <= self.now_s]:
            first = min(due, key=lambda timer: timer.due_s)
            callback, first.callback = first.callback, None
            if callback is not None:
                callback()

    def finish(self) -> None:
        """Run the coroutine that a phase returned, which must not wait for anything."""
        pending, self.pending = self.pending, None
        if not isinstance(pending, Coroutine):
            raise LookupError("no phase is pending")
        try:
            pending.send(None)
        except StopIteration as done:
            if isinstance(done.value, Reply):
                self.reply(done.value)
            else:
                self.resume()
        else:
            pending.close()
            raise RuntimeError("the phase waits: await `pending` instead")

    def respond(
        self, status: int = 200, fields: Fields | None = None, body: bytes = b"", trailers: Fields | None = None
    ) -> tuple[ResponseHead, bytes]:
        """Run the response phases over a response of the upstream, or over the answer if a filter gave one. What a filter puts
        into the place of trailers is the end of the body that is returned."""
        if self.answer is not None:
            status, fields, body, trailers = self.answer.status, self.answer.fields, self.answer.body, None
        head = self.response = self.response_head = ResponseHead(status, list(fields or []))
        for _, phase in self.chain.on_response:
            verdict = phase(self, head, not body and not trailers)
            if isinstance(verdict, Reply):
                trailers = None
                head = self.response = self.response_head = ResponseHead(verdict.status, list(verdict.fields or []))
                body = verdict.body
                break
            if verdict is not None:
                raise NotImplementedError("the harness does not hold responses")
        if body:
            for _, phase in self.chain.on_response_data:
                replaced = phase(self, body, not trailers)
                body = body if replaced is None else replaced
        if trailers:
            self.response_trailers = trailers
            for _, phase in self.chain.on_response_trailers:
                tail = phase(self, trailers)
                if tail is not None:
                    return head, body + tail
        return head, body

    def complete(self) -> None:
        """End the stream, as after its response or when its client is gone."""
        if not self.ended:
            self.ended = True
            self._timers.clear()
            for _, phase in self.chain.on_complete:
                phase(self)

    def _run(self, at: int) -> None:
        phases = self.chain.on_request
        for index in range(at, len(phases)):
            verdict = phases[index][1](self, not self._body_to_come)
            if isinstance(verdict, Reply):
                self.reply(verdict)
                return
            if verdict is not None:
                self._resume_at = index + 1
                self.pending = None if verdict is PAUSE else verdict
                return
        self.forwarded = True
        body = self._body_to_come
        if body:
            for _, data_phase in self.chain.on_request_data:
                verdict = data_phase(self, body, True)
                if isinstance(verdict, Reply):
                    self.reply(verdict)
                    return
                body = body if verdict is None else verdict
        self.body = body


class FilterHarness:
    """Filters in a chain, and the connection on which requests come."""

    def __init__(
        self,
        *filters: StreamFilter,
        per_filter: Mapping[str, PerFilter] | None = None,
        remote: Address = _CLIENT,
        local: Address = _SERVER,
    ) -> None:
        self.chain = FilterChain(filters)
        self.connection = ConnectionInfo(id=1, remote=remote, local=local, start_s=0.0, start_wall_s=0.0)
        self.per_filter = dict(per_filter or {})

    def request(
        self,
        method: bytes = b"GET",
        path: bytes = b"/",
        fields: Fields | None = None,
        body: bytes = b"",
        *,
        authority: bytes = b"test",
        cluster_name: str = "",
        metadata: dict[str, dict[str, Any]] | None = None,
        remote: Address | None = None,
        draws: Sequence[int] = (),
    ) -> HarnessStream:
        """Send a request through the chain. `draws` are what `random_below` answers, then 0."""
        head = RequestHead(method, b"http", authority, path, Version.HTTP11, list(fields or []))
        stream = HarnessStream(self.chain, head, self.connection, self.per_filter, draws)
        stream.cluster_name = cluster_name
        stream.metadata = metadata
        stream.remote = remote
        stream.send(body)
        return stream

    def __repr__(self) -> str:
        return f"<FilterHarness {self.chain!r}>"
