"""Every resource that a real istiod sent is understood, and what is not understood is said."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate import NodeContext, Options, Translated, Translator
from mosn_xds.control.translate.registry import Registry
from mosn_xds.spec.cluster import Cluster, Discovery, Endpoints
from mosn_xds.spec.filters import UnknownFilter
from mosn_xds.spec.listener import CloseConnection, HttpConnectionManager, Listener
from mosn_xds.spec.route import RouteTable
from tests.support.recordings import ROOT, Resource, resources, sessions

ISTIO_RUNTIME = {"re2.max_program_size.error_level": 32768}

REFUSED = {
    "broken": {
        "ring_hash_lb_config.minimum_ring_size: ring hash: minimum_ring_size (4096) > maximum_ring_size (16)",
        "additional_addresses[0].address.socket_address.address: malformed IP address: not-an-ip",
        "virtual_hosts[1].routes[0].match.safe_regex.regex: missing ): (unclosed",
    },
    "churn": {"additional_addresses[0].address.socket_address.address: malformed IP address: not-an-ip"},
}


def new_translator() -> Translator:
    return Translator(NodeContext(), Options(runtime=ISTIO_RUNTIME), Registry([], frozenset()))


def translated(path: Path) -> Iterator[tuple[Resource, Translated | ConfigError]]:
    translator = new_translator()
    for resource in resources(path):
        try:
            yield resource, translator.translate(resource.type_url, resource.name, resource.raw)
        except ConfigError as error:
            yield resource, error


@pytest.mark.parametrize(
    "path", sessions("delta") + sessions("sotw"), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_only_what_is_broken_on_purpose_is_refused(path: Path) -> None:
    refused = {str(outcome) for _, outcome in translated(path) if isinstance(outcome, ConfigError)}
    assert refused == REFUSED.get(path.parent.name, set())


def test_the_specs_of_loop_say_what_the_mesh_asks_for() -> None:
    found = {outcome.name: outcome for _, outcome in translated(ROOT / "loop" / "delta.jsonl.gz")
             if isinstance(outcome, Translated) and not isinstance(outcome.spec, Endpoints)}  # fmt: skip
    listener = found["127.0.0.1_8081"].spec
    assert isinstance(listener, Listener)
    assert listener.bind_to_port and str(listener.addresses[0]) == "127.0.0.1:8081"
    manager = listener.chains[0].filters[-1]
    assert isinstance(manager, HttpConnectionManager)
    assert (manager.rds, listener.route_tables) == ("8081", ("8081",))
    assert [one.name for one in manager.filters][-1] == "envoy.filters.http.router"
    assert not any(isinstance(one.config, UnknownFilter) for one in manager.filters)
    assert manager.stream_idle_timeout_s is None and manager.normalize_path
    table = found["8081"].spec
    assert isinstance(table, RouteTable) and table.ignore_port_in_host
    assert "outbound|8081|v1|catalog.shop.svc.cluster.local" in table.clusters
    passthrough = found["PassthroughCluster"].spec
    assert isinstance(passthrough, Cluster) and passthrough.discovery is Discovery.ORIGINAL_DST
    eds = found["outbound|8081|v1|catalog.shop.svc.cluster.local"]
    assert [need.name for need in eds.needs] == ["outbound|8081|v1|catalog.shop.svc.cluster.local"]
    assert eds.needs[0].initial_fetch_timeout_s == 0


def test_faults_that_must_not_open_a_chain_fail_closed() -> None:
    listeners = [outcome.spec for _, outcome in translated(ROOT / "broken" / "delta.jsonl.gz")
                 if isinstance(outcome, Translated) and isinstance(outcome.spec, Listener)]  # fmt: skip
    chains = [
        chain for one in listeners for chain in (*one.chains, *([one.default_chain] if one.default_chain else []))
    ]
    closing = [one for chain in chains for one in chain.filters if isinstance(one, CloseConnection)]
    unknown = [
        one.config
        for chain in chains
        for manager in chain.filters
        if isinstance(manager, HttpConnectionManager)
        for one in manager.filters
        if isinstance(one.config, UnknownFilter)
    ]
    assert {one.reason for one in closing} == {
        "unknown network filter envoy.filters.network.rbac of type acme.StricterRBAC"
    }
    assert {one.type_url for one in unknown} == {"acme.UnheardOf"}


def test_unchanged_bytes_translate_to_equal_specs() -> None:
    one, other = new_translator(), new_translator()
    for resource in resources(ROOT / "bookinfo" / "delta.jsonl.gz"):
        first = one.translate(resource.type_url, resource.name, resource.raw)
        again = one.translate(resource.type_url, resource.name, resource.raw)
        elsewhere = other.translate(resource.type_url, resource.name, resource.raw)
        assert first == again == elsewhere


def test_unread_paths_name_a_place_once() -> None:
    for path in sessions("delta"):
        if path.parent.name == "scale":
            continue
        for _, outcome in translated(path):
            if isinstance(outcome, Translated):
                for text in (*outcome.unread, *outcome.warnings):
                    assert not text.startswith((".", " ", ":", "(")), text
                    assert ".." not in text and ". " not in text.partition(" (")[0].partition(": ")[0], text


@pytest.mark.usefixtures("checked_names")
def test_translators_ask_for_fields_that_exist() -> None:
    for path in sessions("delta"):
        if path.parent.name != "scale":
            assert list(translated(path))


@pytest.mark.alone
def test_scale_translates_within_its_budget() -> None:
    everything = list(resources(ROOT / "scale" / "delta.jsonl.gz"))
    translator = new_translator()
    began = time.process_time()
    for resource in everything:
        translator.translate(resource.type_url, resource.name, resource.raw)
    spent_s = time.process_time() - began
    assert len(everything) == 2683
    assert spent_s < 1.5, f"{spent_s:.2f} s of CPU"


def mutations(raw: bytes, chance: random.Random) -> Iterator[bytes]:
    for _ in range(4):
        changed = bytearray(raw)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(len(changed))
            match chance.randrange(3):
                case 0:
                    changed[at] = chance.randrange(256)
                case 1:
                    changed[at] ^= 1 << chance.randrange(8)
                case _:
                    changed[at:at] = chance.randbytes(2)
        yield bytes(changed)


def test_damaged_bytes_are_refused_or_understood_and_nothing_else() -> None:
    chance = random.Random(20240607)
    translator = new_translator()
    accepted = refused = 0
    for scenario in ("loop", "security", "egress", "envoyfilter", "telemetry"):
        for resource in resources(next((ROOT / scenario).glob("*delta.jsonl.gz"))):
            for raw in mutations(resource.raw, chance):
                try:
                    translator.translate(resource.type_url, resource.name, raw)
                    accepted += 1
                except ConfigError:
                    refused += 1
    assert accepted and refused
