"""The Pilot over real gRPC, from files, from Python and from recordings."""

import queue
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2
from envoy_data_plane.envoy.config.route import v3 as route

from mosn_xds.base.errors import ConfigError
from mosn_xds.pilot import Pilot, ResourceSet
from mosn_xds.pilot.authoring import serve
from mosn_xds.pilot.directory import Directory, load_file
from mosn_xds.pilot.recording import Replay, read_recording
from mosn_xds.pilot.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES

RECORDINGS = Path(__file__).parent.parent / "recordings"

BOOKS = """
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: books
  connect_timeout: 1s
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: shop
"""


class Client:
    """A delta ADS client that says what it is told to say.

    It dials a unix socket: grpc's threads outlive the test that made them, and with it the network namespace.
    """

    def __init__(self, address: str) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
        self._call = self._channel.stream_stream(method)(iter(self._requests.get, None))

    def send(self, **fields: object) -> None:
        self._requests.put(discovery_pb2.DeltaDiscoveryRequest(**fields).SerializeToString())

    def receive(self) -> discovery_pb2.DeltaDiscoveryResponse:
        return discovery_pb2.DeltaDiscoveryResponse.FromString(next(self._call))

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._channel.close()


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"unix:{tmp_path_factory.mktemp('pilot')}/socket"


@pytest.fixture
def pilot(address: str) -> Iterator[Pilot]:
    served = Pilot(ResourceSet(), address)
    yield served
    served.stop()


def test_a_client_gets_what_is_there_and_then_each_change(pilot, address, tmp_path):
    (tmp_path / "books.yaml").write_text(BOOKS)
    directory = Directory(tmp_path)
    assert directory.read()
    pilot.resources.replace(directory.resources())
    client = Client(address)
    try:
        client.send(type_url=CLUSTER)
        assert [r.name for r in client.receive().resources] == ["books"]
        (tmp_path / "books.yaml").write_text(BOOKS.replace("connect_timeout: 1s", "connect_timeout: 2s"))
        assert directory.read()
        changes = pilot.resources.replace(directory.resources())
        assert [(c.type_url, list(c.upserts)) for c in changes] == [(CLUSTER, ["books"])]
        assert [r.name for r in client.receive().resources] == ["books"]
    finally:
        client.close()
    assert pilot.wait_for(lambda p: not p.sessions, 5)


def test_a_bad_file_is_reported_and_its_last_good_content_stays(tmp_path):
    file = tmp_path / "books.yaml"
    file.write_text(BOOKS)
    directory = Directory(tmp_path)
    directory.read()
    file.write_text(BOOKS.replace("connect_timeout", "conect_timeout"))
    assert directory.read()
    assert list(directory.resources()[CLUSTER]) == ["books"]
    (problem,) = directory.problems.values()
    assert "books.yaml[0]" in problem
    assert "conect_timeout" in problem


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- name: x", "unknown type ''"),
        ("- just text", "a resource is a mapping"),
        ('- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster', "no name"),
        ("a: [", "not YAML"),
        ('{"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: a, metadata: &a {b: *a}}', "nested too"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(tmp_path, text, says):
    file = tmp_path / "f.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_file(file)
    assert says in str(caught.value)
    assert "f.yaml" in str(caught.value)


def test_typed_python_messages_are_served(pilot, address):
    serve(pilot.resources, route.RouteConfiguration(name="shop"))
    client = Client(address)
    try:
        client.send(type_url=ROUTES, resource_names_subscribe=["shop"])
        assert [r.name for r in client.receive().resources] == ["shop"]
    finally:
        client.close()


@pytest.mark.parametrize("variant", ["sotw", "delta"])
def test_a_recording_ends_with_the_same_resources_in_both_variants(variant):
    served = ResourceSet()
    steps = read_recording(RECORDINGS / "churn" / f"{variant}.jsonl.gz")
    replay = Replay(steps, served)
    marks = [replay.advance().mark for _ in steps]
    assert replay.done
    assert len([mark for mark in marks if mark]) >= 20
    assert len(served.get(CLUSTER)) == 12
    assert len(served.get(LISTENER)) == 5
    assert served.get(ENDPOINTS)
    assert served.get(ROUTES)


def test_a_taken_port_is_an_error():
    first = Pilot(ResourceSet())
    try:
        with pytest.raises(OSError, match=str(first.port)):
            Pilot(ResourceSet(), f"127.0.0.1:{first.port}")
    finally:
        first.stop()
