"""The extension surface of the HTTP (and RPC) request path: stream filters.

A stream filter is one object per filter chain, shared by all of its streams; what it must remember about one stream it
keeps in ``stream.state``. It overrides the phases that it wants; a phase that nobody overrides costs nothing, because the
chain is compiled when the listener is built (`FilterChain`). Phases run synchronously inside the reactor and must not
block. A phase returns ``None`` to go on, or a verdict:

- `Reply`: answer now, the rest of the chain and the upstream never see the request;
- `PAUSE` (request and response heads): hold the stream until ``stream.resume()`` is called, bodies are kept meanwhile;
- `bytes` (data phases): use these instead.

A head phase may be an ``async def``: the stream is suspended and a task runs it, cancelled with its stream; what it
returns counts as the verdict. That costs a task, which a rare decision (asking a policy server) can afford.

An exception from a filter fails its stream with 500 and details ``filter_exception{NAME}``; it never reaches the worker.

A filter of somebody else's is a class behind an entry point of the group ``mosn_xds.stream_filters``; its `Options` say
what may be configured. The whole of one that answers requests without a token, to be tried with `harness.FilterHarness`::

    class NeedToken(StreamFilter):
        class Options(FilterOptions, frozen=True):
            header: str

        def on_request(self, stream, end):
            if stream.request.get(self.options.header.encode()) is None:
                return Reply(401, b"who are you?", details="no_token")
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from mosn_xds.base.stats import StatGroup
from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead
from mosn_xds.data.filters.per_route import PerRoute
from mosn_xds.spec.extensions import STREAM_FILTERS, Extension, ExtensionOptions
from mosn_xds.spec.filters import ExtensionFilter

if TYPE_CHECKING:
    from mosn_xds.data.observe.info import ConnectionInfo
    from mosn_xds.spec.common import Address
    from mosn_xds.spec.filters import PerFilter


class Pause(Enum):
    """The verdict that holds a stream."""

    PAUSE = "pause"


PAUSE = Pause.PAUSE


class Reply:
    """The verdict that answers: `details` become ``%RESPONSE_CODE_DETAILS%``, `flags` are `ResponseFlag` bits."""

    __slots__ = ("body", "details", "fields", "flags", "grpc_status", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        *,
        details: str = "",
        flags: int = 0,
        fields: Fields | None = None,
        grpc_status: int | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.details = details
        self.flags = flags
        self.fields = fields
        self.grpc_status = grpc_status

    def __repr__(self) -> str:
        return f"<Reply {self.status} {self.details}>"


Verdict = Reply | Pause | None
DataVerdict = Reply | bytes | None


class UpstreamCluster(Protocol):
    """What a filter may know of the cluster that a request goes to."""

    name: str
    stats: StatGroup
    """``cluster.NAME.``"""

    @property
    def metadata(self) -> bytes:
        """Its filter metadata as JSON, empty for none."""
        ...


class FilterStream(Protocol):
    """What a filter may know of and do to its stream."""

    request: RequestHead
    """The request head; edit it in `on_request`."""
    response: ResponseHead | None
    connection: "ConnectionInfo"
    remote: "Address | None"
    """The trusted client address (x-forwarded-for considered), where it is not the connection's."""
    metadata: dict[str, dict[str, Any]] | None
    """Dynamic metadata: namespace, then key; written by `set_metadata`."""
    state: dict[Any, Any]
    """A place for filters' own notes, keyed by the filter object."""
    flags: int
    route_name: str
    cluster_name: str
    grpc_call: object | None
    """What grpc_stats keeps of the stream, None for what is no gRPC call: cheaper than `state`, which most have no need of."""
    response_trailers: Fields | None
    """The response's trailers, in `on_complete`."""
    last_up_tx: float | None
    """When the last of the request had gone to the upstream, in seconds from the stream's start; None if it had not."""
    last_up_rx: float | None
    """When the last of the response had come."""

    @property
    def cluster(self) -> UpstreamCluster | None:
        """Where the route leads, if there is such a cluster."""
        ...

    def filter_config(self, name: str) -> "PerFilter | None":
        """The most specific per-route configuration of the filter of this name."""
        ...

    def resume(self) -> None:
        """Go on after PAUSE; without effect when the stream has ended."""
        ...

    def reply(self, reply: Reply) -> None:
        """Answer now, from outside a phase (after PAUSE)."""
        ...

    def arm(self, delay_s: float, callback: Callable[[], None]) -> "Timer":
        """A timer that dies with the stream."""
        ...

    def clear_route(self) -> None:
        """The head changed in a way that matters to routing: match again before the router runs."""
        ...

    def random_below(self, stop: int) -> int:
        """An integer in [0, stop)."""
        ...

    def set_metadata(self, namespace: str, key: str, value: object) -> None:
        """Dynamic metadata, readable by later filters and ``%DYNAMIC_METADATA%``."""
        ...


class Timer(Protocol):
    def cancel(self) -> None: ...


@runtime_checkable
class FilterContext(Protocol):
    """What a filter gets when its chain is built."""

    stat_prefix: str
    """``http.PREFIX.`` of the connection manager."""

    def count(self, name: str, amount: int = 1) -> None:
        """Add to the counter `name` under `stat_prefix`."""
        ...

    def gauge(self, name: str, amount: int) -> None:
        """Add to the gauge `name` under `stat_prefix`."""
        ...


FilterOptions = ExtensionOptions
"""Base of a filter's `Options`."""


class StreamFilter(Extension):
    """Base of stream filters; every phase here does nothing and is left out of the compiled chain."""

    GROUP: ClassVar[str] = STREAM_FILTERS

    name: str = ""
    """The name in the chain; set by the builder before the first stream."""

    def __init__(self, options: Any, context: "FilterContext") -> None:
        self.options = options
        self.context = context
        self._of_route: PerRoute[ExtensionFilter, Any] = PerRoute(self._decode_of_route)

    def _decode_of_route(self, spec: ExtensionFilter) -> ExtensionOptions:
        return self.decode_options(spec.config, of_route=True)

    def options_for(self, stream: FilterStream) -> Any:
        """The options that the stream's route gives the filter, `options` where it says nothing. Decoded once."""
        found = stream.filter_config(self.name)
        return self._of_route.of(found) if isinstance(found, ExtensionFilter) else self.options

    def on_request(self, stream: FilterStream, end: bool) -> Verdict | Awaitable[Verdict]:
        """The request head has come and its route is known; `end`: no body will follow."""

    def on_request_data(self, stream: FilterStream, data: bytes, end: bool) -> DataVerdict:
        """A part of the request body."""

    def on_response(self, stream: FilterStream, head: ResponseHead, end: bool) -> Verdict | Awaitable[Verdict]:
        """The response head, from the upstream or made here, before it is written."""

    def on_response_data(self, stream: FilterStream, data: bytes, end: bool) -> bytes | None:
        """A part of the response body."""

    def on_response_trailers(self, stream: FilterStream, fields: Fields) -> bytes | None:
        """The response's trailers, which end it. Bytes take their place, as the end of the body."""

    def on_complete(self, stream: FilterStream) -> None:
        """The stream has ended, however it did; called exactly once per stream."""


class FilterChain:
    """The filters of one connection manager, compiled: for each phase the (name, bound method) that override it.

    Request phases run in the order of the configuration, response phases in the reverse order, as in Envoy.
    """

    __slots__ = (
        "filters", "on_complete", "on_request", "on_request_data", "on_response", "on_response_data",
        "on_response_trailers",
    )  # fmt: skip

    def __init__(self, filters: Sequence[StreamFilter]) -> None:
        self.filters = tuple(filters)
        self.on_request = _overriding(filters, "on_request")
        self.on_request_data = _overriding(filters, "on_request_data")
        self.on_response = _overriding(filters[::-1], "on_response")
        self.on_response_data = _overriding(filters[::-1], "on_response_data")
        self.on_response_trailers = _overriding(filters[::-1], "on_response_trailers")
        self.on_complete = _overriding(filters, "on_complete")

    def __repr__(self) -> str:
        return f"<FilterChain {' '.join(f.name for f in self.filters)}>"


def _overriding(filters: Sequence[StreamFilter], phase: str) -> tuple[tuple[str, Callable[..., Any]], ...]:
    base = getattr(StreamFilter, phase)
    return tuple((f.name, getattr(f, phase)) for f in filters if getattr(type(f), phase) is not base)


def is_pending(verdict: object) -> bool:
    """Whether a phase returned a coroutine to be run."""
    return inspect.isawaitable(verdict)
