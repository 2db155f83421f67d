"""istio.metadata_exchange on HTTP: what peers tell of themselves is taken out, so that no application sees it.

The two headers belong to the exchange between proxies (workload names for metrics), which this filter does not take part in.
"""

from mosn_xds.data.codec.head import Fields, ResponseHead
from mosn_xds.data.filters.api import FilterStream, StreamFilter

PEER_METADATA = frozenset((b"x-envoy-peer-metadata", b"x-envoy-peer-metadata-id"))


class PeerMetadataFilter(StreamFilter):
    """One metadata exchange filter of a chain."""

    def __init__(self) -> None:
        """It has no options."""

    def on_request(self, stream: FilterStream, end: bool) -> None:
        _strip(stream.request.fields)

    def on_response(self, stream: FilterStream, head: ResponseHead, end: bool) -> None:
        _strip(head.fields)

    def __repr__(self) -> str:
        return f"<PeerMetadataFilter {self.name}>"


def _strip(fields: Fields) -> None:
    for name, _ in fields:
        if name in PEER_METADATA:
            fields[:] = [field for field in fields if field[0] not in PEER_METADATA]
            return
