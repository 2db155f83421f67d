"""envoy.filters.http.grpc_stats: gRPC calls and messages, counted for the cluster that a call goes to.

The names are Envoy's: ``cluster.NAME.grpc.SERVICE.METHOD.`` (or without service and method, where the configuration does
not ask for them) with ``success``, ``failure``, ``total``, the status itself, ``request_message_count`` and
``response_message_count``. A message counts when its first byte comes. What is no call (no ``/SERVICE/METHOD``, another
content type, no cluster) is not looked at, nor is the body of an answer that is not gRPC.
"""

from collections.abc import Mapping

from mosn_xds.base.stats import Histogram, StatGroup, StatRegistry
from mosn_xds.data.codec.grpc import is_grpc
from mosn_xds.data.codec.head import Fields, ResponseHead
from mosn_xds.data.filters.api import FilterStream, StreamFilter
from mosn_xds.spec import filters as spec

_PREFIX_BYTES = 5
_STATUS = b"grpc-status"
_OK = b"0"
_MOST_STATUSES = 100
_MOST_PATHS = 1000


class MethodTimes(StatGroup):
    """``cluster.NAME.grpc.SERVICE.METHOD.``, where `enable_upstream_stats` asks for it."""

    HISTOGRAMS = ("upstream_rq_time",)
    __slots__ = HISTOGRAMS

    upstream_rq_time: Histogram


class MessageCounter:
    """Counts length-prefixed messages (gRPC over HTTP/2, "Length-Prefixed-Message") in a body as it passes."""

    __slots__ = ("_left", "_prefix", "total")

    def __init__(self) -> None:
        self.total = 0
        self._prefix = b""
        self._left = 0

    def see(self, data: bytes) -> int:
        """How many messages begin in `data`."""
        size = len(data)
        whole = int.from_bytes(data[1:_PREFIX_BYTES], "big") == size - _PREFIX_BYTES
        if whole and not self._left and not self._prefix:  # as most parts of a body are
            self.total += 1
            return 1
        at = self._left
        if at > size:
            self._left = at - size
            return 0
        begun = 0
        prefix = self._prefix
        while at < size:
            if not prefix:
                begun += 1
            end = at + _PREFIX_BYTES - len(prefix)
            prefix += data[at:end]
            if end > size:
                at = size
                break
            at = end + int.from_bytes(prefix[1:], "big")
            prefix = b""
        self._prefix = prefix
        self._left = max(0, at - size)
        self.total += begun
        return begun

    def __repr__(self) -> str:
        return f"<MessageCounter {self.total} messages>"


class _Names:
    """The counters of a method, or of all that have none of their own."""

    __slots__ = ("failure", "prefix", "request_messages", "response_messages", "statuses", "success", "total")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.success = f"{prefix}success"
        self.failure = f"{prefix}failure"
        self.total = f"{prefix}total"
        self.request_messages = f"{prefix}request_message_count"
        self.response_messages = f"{prefix}response_message_count"
        self.statuses: dict[bytes, str] = {}

    def status(self, value: bytes) -> str:
        name = self.statuses.get(value)
        if name is None:
            name = f"{self.prefix}{value.decode('latin-1')}"
            if len(self.statuses) < _MOST_STATUSES:
                self.statuses[value] = name
        return name


class _Call:
    """What the filter keeps of one call."""

    __slots__ = ("answered", "names", "requests", "responses", "stats")

    def __init__(self, stats: StatGroup, names: _Names) -> None:
        self.stats = stats
        self.names = names
        self.answered = False
        """The response is gRPC's, too."""
        self.requests = MessageCounter()
        self.responses = MessageCounter()


class GrpcStatsFilter(StreamFilter):
    """One grpc_stats filter of a chain."""

    def __init__(self, config: spec.GrpcStatsFilter, stats: StatRegistry) -> None:
        self._all = config.stats_for_all_methods
        self._listed: Mapping[str, frozenset[str]] = {name: frozenset(methods) for name, methods in config.methods}
        self._underscores = config.replace_dots
        self._unnamed = _Names("grpc.")
        self._registry = stats if config.upstream_stats else None
        self._times: dict[str, MethodTimes] = {}
        self._names: dict[bytes, _Names | None] = {}
        """By path; None for what is no call's."""

    def on_request(self, stream: FilterStream, end: bool) -> None:
        head = stream.request
        if not is_grpc(head.get(b"content-type")):
            return
        cluster = stream.cluster
        if cluster is None:
            return
        path = head.path
        if path in self._names:
            names = self._names[path]
        else:
            names = self._names_of(path)
            if len(self._names) >= _MOST_PATHS:
                self._names.clear()
            self._names[path] = names
        if names is not None:
            stream.grpc_call = _Call(cluster.stats, names)

    def _names_of(self, path: bytes) -> _Names | None:
        parts = [part for part in path.partition(b"?")[0].split(b"/") if part]
        if len(parts) != 2:
            return None
        service, method = (part.decode("latin-1") for part in parts)
        if not self._all and method not in self._listed.get(service, ()):
            return self._unnamed
        if self._underscores:
            service = service.replace(".", "_")
        return _Names(f"grpc.{service}.{method}.")

    def on_request_data(self, stream: FilterStream, data: bytes, end: bool) -> None:
        call = stream.grpc_call
        if isinstance(call, _Call) and (begun := call.requests.see(data)):
            call.stats.count(call.names.request_messages, begun)

    def on_response(self, stream: FilterStream, head: ResponseHead, end: bool) -> None:
        call = stream.grpc_call
        if isinstance(call, _Call):
            call.answered = head.status == 200 and is_grpc(head.get(b"content-type"))
            self._charge(call, head.fields)

    def on_response_data(self, stream: FilterStream, data: bytes, end: bool) -> None:
        call = stream.grpc_call
        if isinstance(call, _Call) and call.answered and (begun := call.responses.see(data)):
            call.stats.count(call.names.response_messages, begun)

    def on_complete(self, stream: FilterStream) -> None:
        call = stream.grpc_call
        if not isinstance(call, _Call):
            return
        if stream.response_trailers is not None:
            self._charge(call, stream.response_trailers)
        sent_s, answered_s = stream.last_up_tx, stream.last_up_rx
        if self._registry is not None and sent_s is not None and answered_s is not None:
            self._times_of(self._registry, call).upstream_rq_time.record((answered_s - sent_s) * 1000)

    def _charge(self, call: _Call, fields: Fields) -> None:
        for name, value in fields:
            if name == _STATUS:
                names, count = call.names, call.stats.count
                count(names.status(value))
                count(names.success if value == _OK else names.failure)
                count(names.total)
                return

    def _times_of(self, registry: StatRegistry, call: _Call) -> MethodTimes:
        prefix = f"{call.stats.prefix}{call.names.prefix}"
        times = self._times.get(prefix)
        if times is None:
            times = self._times[prefix] = registry.group(MethodTimes, prefix)
        return times

    def __repr__(self) -> str:
        return f"<GrpcStatsFilter {self.name}>"
