"""Route tables of RPC proxies from Pilot: asked for, awaited, swapped, refused and shown; with messages of our own in them,
packed as Istio's EnvoyFilter carries them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mosn_xds.control.translate.generic_routes import GENERIC_ROUTES_URL
from tests.support import hessian
from tests.support.dubbo_peer import OK, SERVER_ERROR, DubboClient, DubboFrame, DubboUpstream, request
from tests.support.ports import PortAllocator
from tests.support.served import Served

TYPE = "type.googleapis.com"
GENERIC = f"{TYPE}/envoy.extensions.filters.network.generic_proxy"
DUBBO_PROXY = f"{TYPE}/envoy.extensions.filters.network.dubbo_proxy"
ADS = {"ads": {}, "resource_api_version": "V3"}


def ours(kind: str, **value: Any) -> dict[str, Any]:
    return {
        "@type": f"{TYPE}/udpa.type.v1.TypedStruct",
        "type_url": f"{TYPE}/mosn_xds.extensions.rpc.v1.{kind}",
        "value": value,
    }


def table(cluster: str, **more: Any) -> dict[str, Any]:
    action = ours("RouteAction", route={"cluster": cluster, "name": f"to {cluster}"}, **more)
    tree = {
        "input": {"name": "service", "typed_config": {"@type": f"{GENERIC}.matcher.v3.ServiceMatchInput"}},
        "exact_match_map": {"map": {"shop.Cart": {"action": {"name": "route", "typed_config": action}}}},
    }
    return {"@type": GENERIC_ROUTES_URL, "name": "calls", "routes": {"matcher_tree": tree}}


def refused_table() -> dict[str, Any]:
    found = table("first")
    found["virtual_hosts"] = [{"name": "all", "hosts": ["*"], "routes": {}}]
    return found


def cluster(upstream: DubboUpstream) -> dict[str, Any]:
    host = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": upstream.port}}}}
    return {
        "@type": f"{TYPE}/envoy.config.cluster.v3.Cluster",
        "name": upstream.name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": upstream.name, "endpoints": [{"lb_endpoints": [host]}]},
    }


class World:
    """A listener whose route table comes on its own, in front of two servers that answer with their names."""

    def __init__(self, folder: Path) -> None:
        ports = PortAllocator()
        self.port, self.older_port = ports.take(), ports.take()
        self.upstreams = [DubboUpstream("first"), DubboUpstream("second")]
        # State of the world: with delta Pilot says at once that there is no table, and nobody waits for it.
        self.served = Served(folder, *self.resources(), delta=False, wait_ready=False)

    def resources(self, *tables: dict[str, Any], listener: bool = True) -> list[dict[str, Any]]:
        clusters = [cluster(upstream) for upstream in self.upstreams]
        return [*clusters, *([self.listener()] if listener else []), *tables]

    def listener(self, protocol: str = "dubbo", *filters: dict[str, Any]) -> dict[str, Any]:
        router = {"name": "router", "typed_config": {"@type": f"{GENERIC}.router.v3.Router"}}
        options = {"heartbeat_interval_s": 0}
        proxy = {
            "@type": f"{GENERIC}.v3.GenericProxy",
            "stat_prefix": "calls",
            "codec_config": {
                "name": "codec",
                "typed_config": ours("ProtocolCodecConfig", name=protocol, options=options),
            },
            "generic_rds": {"config_source": ADS, "route_config_name": "calls"},
            "filters": [*filters, router],
        }
        return self.listening("dubbo", self.port, proxy)

    def older_listener(self) -> dict[str, Any]:
        """dubbo_proxy, with a table of the same name."""
        drds = {"config_source": ADS, "route_config_name": "calls"}
        proxy = {"@type": f"{DUBBO_PROXY}.v3.DubboProxy", "stat_prefix": "older", "drds": drds}
        return self.listening("older", self.older_port, proxy)

    def listening(self, name: str, port: int, proxy: dict[str, Any]) -> dict[str, Any]:
        return {
            "@type": f"{TYPE}/envoy.config.listener.v3.Listener",
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "generic", "typed_config": proxy}]}],
        }

    def push_listener(self, listener: dict[str, Any], routes: dict[str, Any] | None = None) -> None:
        """In place of the one that is there."""
        self.served.push(*self.resources(listener, routes or table("first"), listener=False))

    def push(self, *tables: dict[str, Any], listener: bool = True) -> None:
        self.served.push(*self.resources(*tables, listener=listener))

    def call(
        self, service: str = "shop.Cart", attachments: dict[str, str] | None = None, *, port: int = 0
    ) -> DubboFrame:
        with DubboClient(port or self.port) as client:
            client.send(request(1, service, attachments=attachments))
            return client.read()

    def shown(self, name: str = "calls") -> dict[str, Any]:
        """A resource in `/xds`, the route table; empty while there is none, or no admin API yet."""
        try:
            resources = self.served.xds()["resources"]
        except OSError:
            return {}
        return next((one for one in resources if one["name"] == name), {})

    def route_configs(self) -> list[dict[str, Any]]:
        dump = json.loads(self.served.proxy.admin("/config_dump")[1])
        section = next(part for part in dump["configs"] if part["@type"].endswith(".RoutesConfigDump"))
        return list(section.get("dynamic_route_configs", []))

    def close(self) -> None:
        with self.served:
            pass
        for upstream in self.upstreams:
            upstream.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    found = World(tmp_path_factory.mktemp("generic-rds"))
    yield found
    found.close()


def test_a_listener_waits_for_its_table_and_serves_with_it(world: World) -> None:
    world.served.wait(lambda: world.shown().get("status") == "requested")
    assert "dubbo" not in world.served.proxy.admin("/listeners")[1]
    world.push(table("first"))
    world.served.wait(lambda: world.served.proxy.admin("/ready")[0] == 200)
    assert (world.shown()["type"], world.shown()["status"]) == ("generic_proxy.RouteConfiguration", "acked")
    assert world.shown()["type_url"] == GENERIC_ROUTES_URL
    assert world.served.xds()["bootstrap"]["static"] == [{"type": "Cluster", "name": "pilot"}]
    assert (world.call().status, world.call().value) == (OK, "first")


def test_what_no_route_takes_is_answered_with_an_error(world: World) -> None:
    found = world.call("other")
    assert (found.status, found.text) == (SERVER_ERROR, "route_not_found")


def test_a_table_is_swapped_under_a_connection(world: World) -> None:
    with DubboClient(world.port) as client:

        def calls(expected: str) -> bool:
            client.send(request(1))
            return client.read().value == expected

        assert calls("first")
        world.push(table("second"))
        world.served.wait(lambda: calls("second"))


def test_a_refused_table_leaves_the_last_good_one(world: World) -> None:
    world.push(refused_table())
    reason = "'routes' cannot be specified at the same time as a catch-all ('*') virtual host in route calls"
    assert world.served.nack() == f"calls: routes: {reason}"
    assert world.call().value == "second"
    assert world.shown()["refusal"]["reason"] == f"routes: {reason}"


def test_the_config_dump_shows_both(world: World) -> None:
    (entry,) = world.route_configs()
    assert entry["route_config"]["@type"] == GENERIC_ROUTES_URL
    assert "second" in json.dumps(entry["route_config"])
    assert "catch-all" in entry["error_state"]["details"]
    assert entry["version_info"] != entry["error_state"]["version_info"]


def test_a_route_edits_attachments_on_their_way(world: World) -> None:
    added = {"header": {"key": "targetApp", "value": "shop"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    world.push(table("first", request_headers_to_add=[added], request_headers_to_remove=["traceId"]))
    world.upstreams[0].forget()  # it was not called since the last swap; workers swap each in its own time
    world.served.wait(lambda: world.call(attachments={"traceId": "7", "path": "shop.Cart"}).value == "first")
    seen = world.upstreams[0].requests[0]
    attachments = seen.body[seen.body.rindex(b"H") :]
    assert hessian.text("targetApp") + hessian.text("shop") in attachments
    assert hessian.text("path") in attachments
    assert b"traceId" not in attachments


def test_tables_of_dubbo_proxy_are_others_of_the_same_name(world: World) -> None:
    route = {"match": {"method": {"name": {"exact": "get"}}}, "route": {"cluster": "second"}}
    older = {
        "@type": f"{DUBBO_PROXY}.v3.MultipleRouteConfiguration",
        "name": "calls",
        "route_config": [{"name": "shop", "interface": "shop.*", "routes": [route]}],
    }
    world.push(table("first"), older, world.older_listener())
    world.served.wait(lambda: "older" in world.served.proxy.admin("/listeners")[1])
    assert world.call(port=world.older_port).value == "second"
    assert world.call().value == "first"
    shown = {one["type"] for one in world.served.xds()["resources"] if one["name"] == "calls"}
    assert shown == {"generic_proxy.RouteConfiguration", "dubbo_proxy.MultipleRouteConfiguration"}
    assert {one["route_config"]["@type"] for one in world.route_configs()} == {GENERIC_ROUTES_URL, older["@type"]}


def test_a_protocol_that_is_not_installed_is_refused_and_what_was_there_serves_on(world: World) -> None:
    world.push(table("first"))
    world.served.wait(lambda: world.call().value == "first")
    before = len(world.served.pilot.nacks)
    world.push_listener(world.listener("acme"))
    said = (
        "Error adding/updating listener(s) dubbo: filter_chains[0].filters[0].typed_config.codec_config.typed_config.name: "
        "no protocol acme is installed (installed: bolt, dubbo, thrift; "
        "any package that has an entry point mosn_xds.protocols: acme brings it)"
    )
    assert world.served.nack(before + 1).strip() == said
    shown = world.shown("dubbo")
    assert (shown["status"], shown["refusal"]["reason"]) == ("nacked", said.partition(" dubbo: ")[2])
    assert world.call().value == "first"


def test_calls_of_a_chain_with_an_unknown_filter_are_answered_with_an_error_that_names_it(world: World) -> None:
    unheard = {"name": "acme", "typed_config": {"@type": f"{TYPE}/google.protobuf.StringValue", "value": "x"}}
    world.push_listener(world.listener("dubbo", unheard))
    answers: list[DubboFrame] = []

    def fails() -> bool:
        answers.append(world.call())
        return answers[-1].status != OK

    world.served.wait(fails)
    assert answers[-1].text == "unknown_filter{unknown_RPC_filter_acme_of_type_google.protobuf.StringValue}"
    assert world.shown("dubbo")["warnings"] == [
        "filter_chains[0].filters[0].typed_config.filters[0]: unknown RPC filter acme of type google.protobuf.StringValue: "
        "requests of its chain are answered with an error"
    ]
    assert "unknown RPC filter acme" in world.served.proxy.log_tail()
    world.push(table("first"))
    world.served.wait(lambda: world.call().status == OK)


def test_a_table_is_warned_of_what_it_asks_in_vain_of_whoever_uses_it(world: World) -> None:
    added = {"header": {"key": "targetApp", "value": "shop"}}
    edits = table("first", request_headers_to_add=[added])
    world.push_listener(world.listener("thrift"), edits)
    text = "used by listener dubbo: thrift has no properties to change: what routes add or remove is ignored"
    world.served.wait(lambda: world.shown().get("warnings") == [text])
    assert f"generic_proxy.RouteConfiguration calls: {text}" in world.served.proxy.log_tail()
    world.push_listener(world.listener("dubbo"), edits)
    world.served.wait(lambda: "warnings" not in world.shown())


def test_a_table_that_nobody_wants_any_more_is_forgotten(world: World) -> None:
    world.push(table("first"), listener=False)
    world.served.wait(lambda: not world.shown())
    assert world.route_configs() == []
