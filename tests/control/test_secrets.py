"""Secrets from where Istio has them: over a stream of their own, over Pilot's, from watched files."""

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import yaml
from google.protobuf import json_format

from mosn_xds.base.clock import SystemClock
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.ads.resource_types import SDS
from mosn_xds.control.assemble import Initialization
from mosn_xds.control.bootstrap import Bootstrap, load_bootstrap
from mosn_xds.control.discovery import Discovery
from mosn_xds.control.stats import SubscriptionStats
from mosn_xds.control.store import ResourceKey, Status
from mosn_xds.control.translate import Options, Translator
from mosn_xds.pilot.resources import CLUSTER, LISTENER, SECRET, Change, ResourceSet
from mosn_xds.pilot.server import Pilot
from mosn_xds.spec.snapshot import Kind, Snapshot
from mosn_xds.spec.tls import AGENT_TICKET_KEYS, Secret
from mosn_xds.xds.messages import message_class
from tests.support.any_secrets import AnySecrets, secret_bytes
from tests.support.authority import Authority, Issued

CONTEXTS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
CA = Authority()
FROM_AGENT = {
    "api_config_source": {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
    },
    "resource_api_version": "V3",
}
FROM_PILOT = {"ads": {}, "resource_api_version": "V3"}
H2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


def grpc_cluster(name: str, address: dict[str, Any]) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": H2,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def listener(name: str, port: int, source: dict[str, Any], certificate: str, *, timeout: str = "0s") -> dict[str, Any]:
    config = {**source, "initial_fetch_timeout": timeout}
    context = {
        "@type": f"{CONTEXTS}.DownstreamTlsContext",
        "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": certificate, "sds_config": config}]},
    }
    tcp = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "t",
        "cluster": "c",
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {
                "transport_socket": {"name": "tls", "typed_config": context},
                "filters": [{"name": "tcp", "typed_config": tcp}],
            }
        ],
    }


def upstream(name: str, source: dict[str, Any], certificate: str, *, timeout: str = "0s") -> dict[str, Any]:
    config = {**source, "initial_fetch_timeout": timeout}
    context = {
        "@type": f"{CONTEXTS}.UpstreamTlsContext",
        "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": certificate, "sds_config": config}]},
    }
    return {"name": name, "type": "STATIC", "transport_socket": {"name": "tls", "typed_config": context}}


def encoded(type_url: str, config: dict[str, Any]) -> bytes:
    found = message_class(type_url)
    assert found is not None
    message_class(f"{CONTEXTS}.DownstreamTlsContext")
    message_class("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy")
    return json_format.ParseDict(config, found()).SerializeToString()


class NoNames:
    async def resolve(self, name: str, family: Any) -> list[Any]:
        return []


class Half:
    """A control half with its own Pilot and an SDS server at a relative unix path."""

    def __init__(self, folder: Path, **static: Any) -> None:
        self.pilot = Pilot(ResourceSet())
        self.secrets = Pilot(ResourceSet(), f"unix:{folder}/sds")
        self.news = trio.Event()
        self.stats = StatRegistry()
        socket = {"socket_address": {"address": "127.0.0.1", "port_value": self.pilot.port}}
        clusters = [grpc_cluster("xds", socket), grpc_cluster("sds-grpc", {"pipe": {"path": "./sds"}})]
        config = {
            "node": {"id": "n", "cluster": "n"},
            "static_resources": {**static, "clusters": [*clusters, *static.get("clusters", [])]},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
                },
                "lds_config": {"ads": {}, "resource_api_version": "V3"},
                "cds_config": {"ads": {}, "resource_api_version": "V3"},
            },
        }
        self.bootstrap: Bootstrap = load_bootstrap(None, yaml.safe_dump(config))
        self.discovery = Discovery(
            self.bootstrap,
            Translator(self.bootstrap.node, Options(secrets=self.bootstrap.secrets)).translate,
            self._publish,
            NoNames(),
            SystemClock(),
            random.Random(7),
            self.stats,
        )
        self.versions = 0

    def _publish(self, snapshot: Snapshot) -> None:
        self.news.set()
        self.news = trio.Event()

    def say(self, pilot: Pilot, type_url: str, *removed: str, **resources: bytes) -> None:
        self.versions += 1
        pilot.resources.apply([Change(type_url, str(self.versions), resources, frozenset(removed))])

    def names(self, kind: Kind) -> set[str]:
        return {name for found, name in self.discovery.assembler.snapshot.items if found is kind}

    def secret(self, name: str) -> Secret:
        item = self.discovery.assembler.snapshot.items[Kind.SECRET, name]
        return msgspec.msgpack.decode(item.raw, type=Secret)

    def run(self, story: Any, limit_s: float = 60) -> None:
        async def main() -> None:
            with trio.fail_after(limit_s):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.discovery.run)
                    await story()
                    nursery.cancel_scope.cancel()

        trio.run(main)

    async def until(self, condition: Any) -> None:
        while not condition():
            with trio.move_on_after(0.02):
                await self.news.wait()

    def stop(self) -> None:
        self.pilot.stop()
        self.secrets.stop()


@pytest.fixture
def half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Half]:
    monkeypatch.chdir(tmp_path)
    found = Half(tmp_path)
    yield found
    found.stop()


def issued(text: str = "spiffe://cluster.local/ns/shop/sa/front", **options: Any) -> Issued:
    return CA.issue(text, **options)


DEFAULT = ResourceKey("grpc:sds-grpc", SDS.url, "default")


def test_a_listener_waits_for_its_secret_and_holds_readiness(half: Half) -> None:
    mine = issued()

    async def story() -> None:
        half.say(half.pilot, LISTENER, l=encoded(LISTENER, listener("l", 1, FROM_AGENT, "default")))
        assembler = half.discovery.assembler
        await half.until(lambda: "l" in assembler.listeners)
        await half.until(lambda: assembler.initialization is Initialization.INITIALIZING)
        await trio.sleep(0.2)
        assert assembler.listeners["l"].waits_for == ("secret default",)
        assert assembler.initialization is Initialization.INITIALIZING
        half.say(half.secrets, SECRET, default=secret_bytes("default", tls_certificate=mine.config()))
        await half.until(lambda: assembler.listeners["l"].active is not None)
        assert half.names(Kind.SECRET) == {"grpc:sds-grpc/default", AGENT_TICKET_KEYS}
        found = half.secret("grpc:sds-grpc/default").certificate
        assert found is not None and found.chain.decode() == mine.chain
        await assembler.live.wait()

    half.run(story)


def test_a_cluster_waits_for_its_secret_too(half: Half) -> None:
    async def story() -> None:
        half.say(half.pilot, CLUSTER, c=encoded(CLUSTER, upstream("c", FROM_AGENT, "default")))
        assembler = half.discovery.assembler
        await half.until(lambda: "c" in assembler.clusters)
        await trio.sleep(0.1)
        assert "c" not in half.names(Kind.CLUSTER)
        half.say(half.secrets, SECRET, default=secret_bytes("default", tls_certificate=issued().config()))
        await half.until(lambda: "c" in half.names(Kind.CLUSTER))

    half.run(story)


def test_a_secret_that_does_not_come_is_awaited_no_longer_than_that(half: Half) -> None:
    async def story() -> None:
        config = listener("l", 1, FROM_AGENT, "default", timeout="0.3s")
        half.say(half.pilot, LISTENER, l=encoded(LISTENER, config))
        await half.until(lambda: "l" in half.names(Kind.LISTENER))
        await half.until(lambda: half.discovery.assembler.listeners["l"].active is not None)
        assert "grpc:sds-grpc/default" not in half.names(Kind.SECRET)
        record = half.discovery.store.get(DEFAULT)
        assert record is not None and record.status is Status.TIMED_OUT

    half.run(story)


def test_a_rotation_changes_the_secret_and_nothing_else(half: Half) -> None:
    async def story() -> None:
        half.say(half.secrets, SECRET, default=secret_bytes("default", tls_certificate=issued().config()))
        half.say(half.pilot, LISTENER, l=encoded(LISTENER, listener("l", 1, FROM_AGENT, "default")))
        half.say(half.pilot, CLUSTER, c=encoded(CLUSTER, upstream("c", FROM_AGENT, "default")))
        await half.until(lambda: {"c"} <= half.names(Kind.CLUSTER) and "l" in half.names(Kind.LISTENER))
        before = half.discovery.assembler.snapshot
        half.say(half.secrets, SECRET, default=secret_bytes("default", tls_certificate=issued().config()))
        await half.until(lambda: half.discovery.assembler.snapshot is not before)
        after = half.discovery.assembler.snapshot
        changed = {key for key, item in after.items.items() if before.items.get(key) != item}
        assert changed == {(Kind.SECRET, "grpc:sds-grpc/default")}

    half.run(story)


def test_an_expired_secret_is_refused_and_the_last_good_one_stays(half: Half) -> None:
    good = issued()

    async def story() -> None:
        half.say(half.secrets, SECRET, default=secret_bytes("default", tls_certificate=good.config()))
        half.say(half.pilot, LISTENER, l=encoded(LISTENER, listener("l", 1, FROM_AGENT, "default")))
        await half.until(lambda: "l" in half.names(Kind.LISTENER))
        old = issued(start=timedelta(days=-2), end=timedelta(days=-1))
        half.say(half.secrets, SECRET, default=secret_bytes("default", tls_certificate=old.config()))
        await half.until(lambda: half.secrets.nacks)
        found = half.secret("grpc:sds-grpc/default").certificate
        assert found is not None and found.chain.decode() == good.chain
        counted = half.stats.group(SubscriptionStats, "sds.default.")
        assert (counted.update_success, counted.update_rejected, counted.update_attempt) == (1, 1, 3)

    half.run(story)
    (nack,) = half.secrets.nacks
    assert nack.message.startswith(
        "default: tls_certificate: Failed to load certificate chain from <inline>: it expired"
    )


def test_a_wrong_kind_of_secret_is_still_awaited(half: Half) -> None:
    async def story() -> None:
        roots = {"trusted_ca": {"inline_string": CA.root}}
        half.say(half.secrets, SECRET, default=secret_bytes("default", validation_context=roots))
        half.say(half.pilot, LISTENER, l=encoded(LISTENER, listener("l", 1, FROM_AGENT, "default")))
        await half.until(lambda: (r := half.discovery.store.get(DEFAULT)) is not None and r.good is not None)
        await trio.sleep(0.1)
        assert half.discovery.assembler.listeners["l"].active is None

    half.run(story)


def test_the_same_name_from_two_sources_is_two_secrets(half: Half) -> None:
    one, two = issued(), issued("spiffe://cluster.local/ns/shop/sa/other")

    async def story() -> None:
        half.say(half.secrets, SECRET, default=secret_bytes("default", tls_certificate=one.config()))
        half.say(half.pilot, SECRET, default=secret_bytes("default", tls_certificate=two.config()))
        config = [listener("l", 1, FROM_AGENT, "default"), listener("m", 2, FROM_PILOT, "default")]
        half.say(half.pilot, LISTENER, **{each["name"]: encoded(LISTENER, each) for each in config})
        await half.until(lambda: {"grpc:sds-grpc/default", "ads/default"} <= half.names(Kind.SECRET))
        first, second = half.secret("grpc:sds-grpc/default"), half.secret("ads/default")
        assert first.certificate is not None and first.certificate.chain.decode() == one.chain
        assert second.certificate is not None and second.certificate.chain.decode() == two.chain

    half.run(story)


def test_each_name_has_a_stream_of_its_own_that_ends_with_its_last_user(half: Half) -> None:
    async def story() -> None:
        half.secrets.resources = AnySecrets()
        config = [listener("l", 1, FROM_AGENT, "default"), listener("m", 2, FROM_AGENT, "file-cert:/a~/b")]
        half.say(half.pilot, LISTENER, **{each["name"]: encoded(LISTENER, each) for each in config})
        await half.until(lambda: half.names(Kind.LISTENER) >= {"l", "m"})
        await half.until(lambda: len(half.secrets.sessions) == 2)
        half.say(half.pilot, LISTENER, "m")
        await half.until(lambda: len(half.secrets.sessions) == 1)
        assert len(half.discovery.clients) == 2  # Pilot's, and the one that is left
        await half.until(lambda: half.names(Kind.SECRET) == {"grpc:sds-grpc/default", AGENT_TICKET_KEYS})

    half.run(story)


def overwrite(path: str, text: str) -> None:
    Path(path).write_text(text)


def files_source(path: Path) -> dict[str, Any]:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def test_secrets_of_a_watched_file_and_the_files_that_it_names(half: Half, tmp_path: Path) -> None:
    first, second = issued(), issued()
    chain, key = first.write(tmp_path)
    resource = {
        "@type": SECRET,
        "name": "mine",
        "tls_certificate": {
            "certificate_chain": {"filename": chain},
            "private_key": {"filename": key},
            "watched_directory": {"path": str(tmp_path)},
        },
    }
    path = tmp_path / "sds.yaml"
    path.write_text(yaml.safe_dump({"resources": [resource]}))
    name = f"path:{path}/mine"

    def served() -> str:
        if name not in half.names(Kind.SECRET):
            return ""
        found = half.secret(name).certificate
        return found.chain.decode() if found is not None else ""

    async def story() -> None:
        half.say(half.pilot, LISTENER, l=encoded(LISTENER, listener("l", 1, files_source(path), "mine")))
        await half.until(lambda: served() == first.chain)
        overwrite(chain, "broken")
        store = half.discovery.store
        at = ResourceKey(f"path:{path}", SDS.url, "mine")
        await half.until(lambda: (record := store.get(at)) is not None and record.refusal is not None)
        assert served() == first.chain
        second.write(tmp_path)
        await half.until(lambda: served() == second.chain)

    half.run(story)


def test_the_bootstraps_own_secrets_are_there_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = upstream("c", {}, "own")
    context = config["transport_socket"]["typed_config"]["common_tls_context"]
    context["tls_certificate_sds_secret_configs"] = [{"name": "own"}]
    half = Half(tmp_path, secrets=[{"name": "own", "tls_certificate": issued().config()}], clusters=[config])

    async def story() -> None:
        await half.until(lambda: "c" in half.names(Kind.CLUSTER))
        assert half.names(Kind.SECRET) == {"static/own"}

    try:
        half.run(story)
    finally:
        half.stop()
