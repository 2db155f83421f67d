"""The Pilot's side of a stream as conversations."""

from envoy.service.discovery.v3 import discovery_pb2

from mosn_xds.pilot.resources import CLUSTER, ENDPOINTS, ROUTES, Change, ResourceSet
from mosn_xds.pilot.session import Nack, Session, Variant


def resources() -> ResourceSet:
    served = ResourceSet()
    served.apply(
        [
            Change(CLUSTER, "1", {"a": b"A", "b": b"B"}),
            Change(ENDPOINTS, "1", {"a": b"EA", "b": b"EB"}),
            Change(ROUTES, "1", {"r": b"R"}),
        ]
    )
    return served


def session(variant: Variant, served: ResourceSet) -> tuple[Session, list[Nack]]:
    nacks: list[Nack] = []
    return Session(variant, served, nacks.append), nacks


def sotw(type_url: str, names: tuple[str, ...] = (), nonce: str = "", version: str = "", error: str = "") -> bytes:
    request = discovery_pb2.DiscoveryRequest(
        type_url=type_url, resource_names=names, response_nonce=nonce, version_info=version
    )
    request.node.id = "sidecar"
    if error:
        request.error_detail.message = error
    return bytes(request.SerializeToString())


def delta(
    type_url: str, subscribe: tuple[str, ...] = (), nonce: str = "", known: tuple[str, ...] = (), error: str = ""
) -> bytes:
    request = discovery_pb2.DeltaDiscoveryRequest(
        type_url=type_url, resource_names_subscribe=subscribe, response_nonce=nonce
    )
    for name in known:
        request.initial_resource_versions[name] = "1"
    if error:
        request.error_detail.message = error
    return bytes(request.SerializeToString())


def read_sotw(raw: bytes) -> discovery_pb2.DiscoveryResponse:
    return discovery_pb2.DiscoveryResponse.FromString(raw)


def read_delta(raw: bytes) -> discovery_pb2.DeltaDiscoveryResponse:
    return discovery_pb2.DeltaDiscoveryResponse.FromString(raw)


def test_a_wildcard_type_is_answered_whole_and_a_named_one_by_name():
    stream, _ = session(Variant.SOTW, resources())
    (clusters,) = stream.request(sotw(CLUSTER))
    assert [r.value for r in read_sotw(clusters).resources] == [b"A", b"B"]
    (endpoints,) = stream.request(sotw(ENDPOINTS, ("b",)))
    assert [r.value for r in read_sotw(endpoints).resources] == [b"EB"]


def test_added_names_are_answered_alone_and_an_ack_not_at_all():
    stream, _ = session(Variant.SOTW, resources())
    (first,) = stream.request(sotw(ENDPOINTS, ("a",)))
    nonce = read_sotw(first).nonce
    assert stream.request(sotw(ENDPOINTS, ("a",), nonce, "1")) == []
    assert stream.acked == {ENDPOINTS: "1"}
    (second,) = stream.request(sotw(ENDPOINTS, ("a", "b"), nonce, "1"))
    assert [r.value for r in read_sotw(second).resources] == [b"EB"]


def test_a_stale_nonce_is_ignored():
    stream, _ = session(Variant.SOTW, resources())
    stream.request(sotw(ENDPOINTS, ("a",)))
    assert stream.request(sotw(ENDPOINTS, ("a", "b"), "old", "1")) == []


def test_a_nack_is_noted_and_not_answered():
    stream, nacks = session(Variant.SOTW, resources())
    (first,) = stream.request(sotw(CLUSTER))
    assert stream.request(sotw(CLUSTER, (), read_sotw(first).nonce, "", "no good")) == []
    assert [nack.message for nack in nacks] == ["no good"]
    assert stream.acked == {CLUSTER: ""}


def test_after_clusters_the_endpoints_are_answered_again():
    served = resources()
    stream, _ = session(Variant.SOTW, served)
    stream.request(sotw(CLUSTER))
    (endpoints,) = stream.request(sotw(ENDPOINTS, ("a",)))
    nonce = read_sotw(endpoints).nonce
    change = Change(CLUSTER, "2", {"a": b"A2"})
    served.apply([change])
    (push,) = stream.changed([change])
    assert [r.value for r in read_sotw(push).resources] == [b"A2", b"B"]
    (again,) = stream.request(sotw(ENDPOINTS, ("a",), nonce, "1"))
    assert [r.value for r in read_sotw(again).resources] == [b"EA"]


def test_delta_pushes_only_what_changed_and_names_what_is_gone():
    served = resources()
    stream, _ = session(Variant.DELTA, served)
    stream.request(delta(CLUSTER))
    change = Change(CLUSTER, "2", {"c": b"C"}, frozenset(("a",)))
    served.apply([change])
    (push,) = stream.changed([change])
    response = read_delta(push)
    assert [(r.name, r.resource.value) for r in response.resources] == [("c", b"C")]
    assert list(response.removed_resources) == ["a"]


def test_delta_names_what_does_not_exist_as_removed():
    stream, _ = session(Variant.DELTA, resources())
    (response,) = stream.request(delta(ROUTES, ("r", "nope")))
    assert [r.name for r in read_delta(response).resources] == ["r"]
    assert list(read_delta(response).removed_resources) == ["nope"]


def test_delta_reconnect_hears_what_vanished_meanwhile():
    served = resources()
    served.apply([Change(CLUSTER, "2", {}, frozenset(("a",)))])
    stream, _ = session(Variant.DELTA, served)
    (response,) = stream.request(delta(CLUSTER, known=("a", "b")))
    assert list(read_delta(response).removed_resources) == ["a"]


def test_delta_cluster_push_forces_the_endpoints():
    served = resources()
    stream, _ = session(Variant.DELTA, served)
    stream.request(delta(CLUSTER))
    stream.request(delta(ENDPOINTS, ("a", "b")))
    change = Change(CLUSTER, "2", {"a": b"A2"})
    served.apply([change])
    pushes = [read_delta(raw) for raw in stream.changed([change])]
    assert [push.type_url for push in pushes] == [CLUSTER, ENDPOINTS]
    assert {r.name for r in pushes[1].resources} == {"a", "b"}
