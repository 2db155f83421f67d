"""How long a forwarded RPC may take, and what its server is told of it.

The route has a say, and so has the client, if its protocol lets it: who waits no longer needs no answer. The server hears of
the route's limit where that is the shorter one.
"""

from collections.abc import Mapping

from mosn_xds.data.codec.head import RequestHead
from mosn_xds.data.codec.rpc import RpcRequest
from mosn_xds.data.proxy.timeouts import TimeoutRules, Timeouts


class RpcTimeoutRules(TimeoutRules):
    """A route's share of it."""

    __slots__ = ()

    def apply(
        self, head: RequestHead, index: Mapping[bytes, bytes], *, suppress: bool, respect_expected: bool
    ) -> Timeouts:
        del index, suppress, respect_expected
        limits = self._plain
        asked_s = head.timeout_s if isinstance(head, RpcRequest) else None
        whole_s = limits.whole_s
        if isinstance(head, RpcRequest) and whole_s and (asked_s is None or whole_s < asked_s):
            head.limit_s = whole_s
        if asked_s is None or (whole_s and whole_s <= asked_s):
            return limits
        return self._limit(asked_s, limits.per_try_s, limits.stream_s, alternative=False)
