"""What an RPC proxy counts of its calls: by status and flag as Envoy's generic_proxy does, and by service and method.

The latter are groups of their own, ``PREFIXrpc.PROTOCOL.SERVICE.METHOD.``. Clients choose those names, so there is a bound:
at most `MOST_METHODS` of one proxy are told apart, in the order in which they come and however often its chain is replaced;
what has no route, or a name too long, is none of them. All else is ``PREFIXrpc.PROTOCOL.other.other.``. What could not
stand in a name becomes ``_``.
"""

import re
from typing import TYPE_CHECKING, Final

from mosn_xds.base.errors import flag_names
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.codec.rpc import Kind
from mosn_xds.data.proxy.rpc.stats import MethodStats, RpcStats

if TYPE_CHECKING:
    from mosn_xds.data.proxy.rpc.stream import RpcStream

MOST_METHODS: Final = 500
_LONGEST_NAME_BYTES: Final = 200
_OTHER: Final = b"other"
_UNFIT = re.compile(r"[^A-Za-z0-9_.:/$~-]")


class CallStats:
    """The calls of one RPC proxy."""

    def __init__(self, stats: RpcStats, registry: StatRegistry) -> None:
        self._stats = stats
        self._registry = registry
        self._methods = stats.methods
        self._others = stats.other_methods

    def __repr__(self) -> str:
        return f"<CallStats {self._stats.prefix} {len(self._methods)} methods>"

    def ended(self, stream: "RpcStream") -> None:
        """Count a call that is over."""
        stats, request, status = self._stats, stream.rpc, stream.response_code
        code = stream.rpc_code or 0
        if code in stats.codes:
            stats.codes[code] += 1
        else:
            stats.count_code(code)
        if stream.flags:
            for flag in flag_names(stream.flags).split(","):
                stats.count(f"downstream_rq_flag.{flag}")
        method = self._methods.get((request.version.label, request.authority or b"", request.method))
        if method is None:
            method = self._find(stream)
        method.rq_total += 1
        method.rq_time.record((stream.duration_s or 0.0) * 1000)
        if stream.failed or (not status and request.kind is not Kind.ONEWAY):
            method.rq_error += 1
            if status:
                stats.downstream_rq_error += 1
            else:
                stats.downstream_rq_reset += 1

    def _find(self, stream: "RpcStream") -> MethodStats:
        request = stream.rpc
        service, method = request.service, request.method
        label = request.version.label
        key = (label, service, method)
        if (
            stream.route is not None
            and len(self._methods) < MOST_METHODS
            and len(service) + len(method) <= _LONGEST_NAME_BYTES
        ):
            found = self._methods[key] = self._group(*key)
        else:
            other = self._others.get(label)
            if other is None:
                other = self._others[label] = self._group(label, _OTHER, _OTHER)
            found = other
        return found

    def _group(self, label: str, service: bytes, method: bytes) -> MethodStats:
        whose = f"{_fit(service)}.{_fit(method).replace('.', '_')}"
        return self._registry.group(MethodStats, f"{self._stats.prefix}rpc.{label}.{whose}.")


def _fit(name: bytes) -> str:
    return _UNFIT.sub("_", name.decode("utf-8", "replace")) or "_"
