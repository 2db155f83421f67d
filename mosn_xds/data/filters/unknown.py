"""What stands in a chain for a filter that this proxy does not know: it lets nothing pass.

Leaving it out might leave out a policy, which is worse than failing; so each request is answered 503, with the reason.
"""

from mosn_xds.data.filters.api import FilterStream, Reply, StreamFilter
from mosn_xds.spec.filters import UnknownFilter


class RefusingFilter(StreamFilter):
    """Answers 503; its details are one word, for access logs are split at blanks."""

    def __init__(self, spec: UnknownFilter) -> None:
        self._spec = spec
        self._reply = Reply(503, details=f"unknown_filter{{{'_'.join(spec.reason.split())}}}")

    def on_request(self, stream: FilterStream, end: bool) -> Reply:
        return self._reply

    def __repr__(self) -> str:
        return f"<RefusingFilter {self.name} {self._spec.type_url}>"
