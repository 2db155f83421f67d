"""istio.metadata_exchange on HTTP: two headers in which sidecars tell each other who they are, for telemetry.

What a peer tells is taken out, so that no application sees it, and kept in the stream's `state`. We tell the upstream with
each request, and the downstream if it told us (Istio's ``peer_metadata`` filter).
"""

from typing import Final, NamedTuple

import msgspec

from mosn_xds.data.codec.head import Fields, ResponseHead
from mosn_xds.data.filters.api import FilterStream, StreamFilter
from mosn_xds.spec import filters as spec

METADATA, NODE_ID = b"x-envoy-peer-metadata", b"x-envoy-peer-metadata-id"
_BOTH: Final = frozenset((METADATA, NODE_ID))
_ALWAYS_EXTERNAL: Final = "PassthroughCluster"


class Told(NamedTuple):
    """What a peer said: the headers' values, None for what did not come."""

    metadata: bytes | None
    node_id: bytes | None


_NOTHING: Final = Told(None, None)


class PeerMetadataFilter(StreamFilter):
    """One metadata exchange filter of a chain."""

    def __init__(self, config: spec.PeerMetadataFilter) -> None:
        self._config = config
        self._metadata = config.metadata.encode()
        self._node_id = config.node_id.encode()
        self._skips: dict[bytes, bool] = {}

    def on_request(self, stream: FilterStream, end: bool) -> None:
        config = self._config
        fields = stream.request.fields
        if config.from_downstream:
            told = _take_out(fields)
            if told is not _NOTHING:
                stream.state[self] = told
        if config.to_upstream and not self._leads_outside(stream):
            _take_out(fields)
            fields.append((NODE_ID, self._node_id))
            fields.append((METADATA, self._metadata))

    def on_response(self, stream: FilterStream, head: ResponseHead, end: bool) -> None:
        config = self._config
        if config.from_upstream:
            _take_out(head.fields)
        if config.to_downstream and (told := stream.state.get(self)) is not None:
            if told.node_id is not None:
                head.fields.append((NODE_ID, self._node_id))
            if told.metadata is not None:
                head.fields.append((METADATA, self._metadata))

    def _leads_outside(self, stream: FilterStream) -> bool:
        cluster = stream.cluster
        if cluster is None:
            return False
        if self._config.skip_external and cluster.name == _ALWAYS_EXTERNAL:
            return True
        metadata = cluster.metadata
        if not metadata:
            return False
        skips = self._skips.get(metadata)
        if skips is None:
            skips = self._skips[metadata] = self._is_skipped(metadata)
        return skips

    def _is_skipped(self, metadata: bytes) -> bool:
        """Istio's clusters say so in filter metadata ``istio``."""
        said = msgspec.json.decode(metadata).get("istio")
        if not isinstance(said, dict):
            return False
        return said.get("disable_mx") is True or (self._config.skip_external and said.get("external") is True)

    def __repr__(self) -> str:
        return f"<PeerMetadataFilter {self.name}>"


def _take_out(fields: Fields) -> Told:
    for name, _ in fields:
        if name in _BOTH:
            break
    else:
        return _NOTHING
    given = dict(fields)
    fields[:] = [field for field in fields if field[0] not in _BOTH]
    return Told(given.get(METADATA), given.get(NODE_ID))
