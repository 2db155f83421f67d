"""Who this workload is, as its peers' telemetry wants it: for HTTP two headers, for TCP a frame (istio.io, metadata exchange).

The Struct holds what Istio's `convertWorkloadMetadataToStruct` takes of the node; workers get it encoded.
"""

import base64
from typing import Any

from google.protobuf import any_pb2, struct_pb2

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.model import NodeContext
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.filters import PeerMetadataFilter
from mosn_xds.spec.listener import MetadataExchange

MAGIC = 0x3D230467
_KEYS = ("CLUSTER_ID", "NAME", "NAMESPACE", "OWNER", "WORKLOAD_NAME")
_LABELS = ("app", "service.istio.io/canonical-name", "service.istio.io/canonical-revision", "version")
_METADATA, _ID = "x-envoy-peer-metadata", "x-envoy-peer-metadata-id"


def peer_metadata(take: Take, context: Context, name: str) -> PeerMetadataFilter:
    """io.istio.http.peer_metadata.Config."""
    labels = take.texts("additional_labels")
    from_downstream = _discovers(take, "downstream_discovery")
    from_upstream = _discovers(take, "upstream_discovery")
    to_downstream, _ = _propagates(take, "downstream_propagation")
    to_upstream, skip_external = _propagates(take, "upstream_propagation")
    if take.has("shared_with_upstream"):
        take.ignore("shared_with_upstream", "there is no filter state")
    return PeerMetadataFilter(
        from_downstream,
        from_upstream,
        to_downstream,
        to_upstream,
        skip_external,
        base64.b64encode(_encode(_struct(context.node, labels))).decode(),
        context.node.id,
    )


def metadata_exchange(take: Take, context: Context, name: str) -> MetadataExchange:
    """envoy.tcp.metadataexchange.config.MetadataExchange, of a chain or of a cluster."""
    if take.flag("enable_discovery"):
        take.ignore("enable_discovery", "peers are known by what they tell only")
    told = struct_pb2.Struct()
    told.fields[_METADATA].struct_value.CopyFrom(_struct(context.node, take.texts("additional_labels")))
    told.fields[_ID].string_value = context.node.id
    packed = any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Struct", value=_encode(told))
    body = _encode(packed)
    frame = MAGIC.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body
    return MetadataExchange(take.text("protocol"), frame)


def _discovers(take: Take, field: str) -> bool:
    """Whether headers are among the methods."""
    found = False
    for method in take.children(field):
        found = found or method.has("istio_headers")
        method.child("istio_headers")
        for other in ("workload_discovery", "baggage"):
            if method.has(other):
                method.ignore(other, "peers are known by what they tell only")
    return found


def _propagates(take: Take, field: str) -> tuple[bool, bool]:
    """Whether headers are among the methods, and whether clusters outside of the mesh are left out."""
    found = skip = False
    for method in take.children(field):
        headers = method.child("istio_headers")
        if headers is not None:
            found, skip = True, headers.flag("skip_external_clusters")
    return found, skip


def _struct(node: NodeContext, more_labels: tuple[str, ...]) -> struct_pb2.Struct:
    found = struct_pb2.Struct()
    for key in _KEYS:
        value = node.metadata.get(key)
        if isinstance(value, str) and value:
            found.fields[key].string_value = value
    labels = node.metadata.get("LABELS")
    if isinstance(labels, dict):
        for key in (*_LABELS, *more_labels):
            if isinstance(labels.get(key), str):
                found.fields["LABELS"].struct_value.fields[key].string_value = labels[key]
    return found


def _encode(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))
