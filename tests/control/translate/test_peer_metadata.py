"""Who we are, as peers hear it: Istio's metadata exchange, for HTTP and for TCP."""

import base64
from typing import Any

import pytest
from google.protobuf import any_pb2, json_format, struct_pb2

from mosn_xds.control.bootstrap.reading import prepare
from mosn_xds.control.translate.model import NodeContext
from mosn_xds.control.translate.translator import CLUSTERS_URL, LISTENERS_URL, Translator
from mosn_xds.spec.cluster import Cluster
from mosn_xds.spec.filters import PeerMetadataFilter
from mosn_xds.spec.listener import HttpConnectionManager, Listener, MetadataExchange
from mosn_xds.xds.messages import message_class

pytestmark = pytest.mark.usefixtures("checked_names")

NODE = NodeContext(
    "sidecar~10.1.1.1~front-1.shop~shop.svc.cluster.local",
    metadata={
        "NAME": "front-1",
        "NAMESPACE": "shop",
        "CLUSTER_ID": "Kubernetes",
        "OWNER": "kubernetes://apis/apps/v1/namespaces/shop/deployments/front",
        "WORKLOAD_NAME": "front",
        "ISTIO_VERSION": "1.29",
        "LABELS": {"app": "front", "version": "v1", "team": "books", "service.istio.io/canonical-name": "front"},
    },
)
EXCHANGE = "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange"


def typed_struct(kind: str, **value: Any) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": kind, "value": value}


def translate(type_url: str, config: dict[str, Any]) -> Any:
    found = message_class(type_url)
    assert found is not None
    message = json_format.ParseDict(prepare(config), found())
    return Translator(NODE).translate(type_url, "", message.SerializeToString())


def listener(*filters: dict[str, Any]) -> Listener:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 1}}
    found = translate(LISTENERS_URL, {"name": "l", "address": address, "filter_chains": [{"filters": list(filters)}]})
    assert isinstance(found.spec, Listener)
    return found.spec


def http_filter(**value: Any) -> PeerMetadataFilter:
    extensions = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "route_config": {},
        "http_filters": [
            {
                "name": "istio.metadata_exchange",
                "typed_config": typed_struct("type.googleapis.com/io.istio.http.peer_metadata.Config", **value),
            },
            {"name": "router", "typed_config": {"@type": f"{extensions}.http.router.v3.Router"}},
        ],
    }
    found = listener({"name": "hcm", "typed_config": manager}).chains[0].filters[0]
    assert isinstance(found, HttpConnectionManager)
    config = found.filters[0].config
    assert isinstance(config, PeerMetadataFilter)
    return config


def told(struct: struct_pb2.Struct) -> dict[str, Any]:
    return json_format.MessageToDict(struct)


WHO = {
    "NAME": "front-1",
    "NAMESPACE": "shop",
    "CLUSTER_ID": "Kubernetes",
    "OWNER": "kubernetes://apis/apps/v1/namespaces/shop/deployments/front",
    "WORKLOAD_NAME": "front",
    "LABELS": {"app": "front", "version": "v1", "service.istio.io/canonical-name": "front"},
}


def test_istios_inbound_filter_hears_the_downstream_and_answers_it() -> None:
    found = http_filter(
        downstream_discovery=[{"istio_headers": {}}, {"workload_discovery": {}}],
        downstream_propagation=[{"istio_headers": {}}],
    )
    assert (found.from_downstream, found.to_downstream) == (True, True)
    assert (found.from_upstream, found.to_upstream) == (False, False)
    assert found.node_id == NODE.id
    assert told(struct_pb2.Struct.FromString(base64.b64decode(found.metadata))) == WHO


def test_istios_outbound_filter_tells_the_upstream() -> None:
    found = http_filter(
        upstream_discovery=[{"istio_headers": {}}],
        upstream_propagation=[{"istio_headers": {"skip_external_clusters": True}}],
        additional_labels=["team"],
    )
    assert (found.from_upstream, found.to_upstream, found.skip_external) == (True, True, True)
    assert told(struct_pb2.Struct.FromString(base64.b64decode(found.metadata)))["LABELS"]["team"] == "books"


def test_the_frame_of_a_chain_and_of_a_cluster() -> None:
    config = {"name": "istio.metadata_exchange", "typed_config": typed_struct(EXCHANGE, protocol="istio-peer-exchange")}
    tcp = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "t",
        "cluster": "c",
    }
    found = listener(config, {"name": "tcp", "typed_config": tcp}).chains[0].filters[0]
    assert isinstance(found, MetadataExchange) and found.protocol == "istio-peer-exchange"
    magic, length, body = found.frame[:4], found.frame[4:8], found.frame[8:]
    assert (magic, int.from_bytes(length, "big")) == (b"\x3d\x23\x04\x67", len(body))
    whole = struct_pb2.Struct()
    assert any_pb2.Any.FromString(body).Unpack(whole)
    assert told(whole) == {"x-envoy-peer-metadata": WHO, "x-envoy-peer-metadata-id": NODE.id}
    cluster = translate(CLUSTERS_URL, {"name": "c", "type": "STATIC", "filters": [config]}).spec
    assert isinstance(cluster, Cluster) and cluster.metadata_exchange == found
