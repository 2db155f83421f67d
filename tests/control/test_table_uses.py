"""Route tables that come on their own, and what whoever uses them makes void in them."""

import pytest

from mosn_xds.base.clock import ManualClock
from mosn_xds.control.ads.resource_types import GENERIC_RDS, LDS, TRDS
from mosn_xds.control.store import ResourceKey, ResourceStore
from mosn_xds.control.table_uses import TableUses
from mosn_xds.control.translate import NodeContext, Translated, Translator
from tests.control.translate.test_generic_proxy import GENERIC, ROUTER, by, table, to
from tests.control.translate.test_translation import translate, typed

ADS = {"ads": {}, "resource_api_version": "V3"}
READS = by("Property", {"x": to()}, property_name="tenant")
VOID = "thrift has no properties: what routes match, hash or choose by one finds none"


class Bench:
    """A store that Pilot fills; listeners are by name what their proxy speaks."""

    def __init__(self, *static: Translated) -> None:
        self.translator = Translator(NodeContext())
        self.store: ResourceStore[Translated] = ResourceStore(ManualClock())
        self.uses = TableUses(self.store, static, self.translator.without_effect)

    def listener(self, name: str, protocol: str) -> Translated:
        kind = "type.googleapis.com/mosn_xds.extensions.rpc.v1.ProtocolCodecConfig"
        rds = {"config_source": ADS, "route_config_name": "table"}
        config = typed(
            f"{GENERIC}.v3.GenericProxy",
            stat_prefix="rpc",
            codec_config={"name": "codec", "typed_config": {"@type": kind, "name": protocol}},
            filters=[ROUTER],
            generic_rds=rds,
        )
        if protocol == "thrift_proxy":
            config = typed("filters.network.thrift_proxy.v3.ThriftProxy", stat_prefix="t", trds=rds)
        address = {"socket_address": {"address": "127.0.0.1", "port_value": 80}}
        chain = {"filters": [{"name": "rpc", "typed_config": config}]}
        return translate(LDS.url, {"name": name, "address": address, "filter_chains": [chain]})

    def push(self, type_url: str, product: Translated) -> ResourceKey:
        key = ResourceKey("ads", type_url, product.name.rpartition("/")[2])
        self.store.accept(key, "1", repr(product.spec).encode(), product)
        self.uses.look([key])
        return key


def test_a_table_is_warned_of_by_each_listener_that_asks_in_vain() -> None:
    bench = Bench()
    key = bench.push(GENERIC_RDS.url, translate(GENERIC_RDS.url, table(READS)))
    assert bench.uses.warnings == {}
    bench.push(LDS.url, bench.listener("till", "dubbo"))
    assert bench.uses.warnings == {}
    bench.push(LDS.url, bench.listener("cart", "thrift"))
    assert bench.uses.warnings == {key: (f"used by listener cart: {VOID}",)}


def test_warnings_go_with_their_cause() -> None:
    bench = Bench()
    listener = bench.push(LDS.url, bench.listener("cart", "thrift"))
    bench.push(GENERIC_RDS.url, translate(GENERIC_RDS.url, table(READS)))
    assert len(bench.uses.warnings) == 1
    bench.push(GENERIC_RDS.url, translate(GENERIC_RDS.url, table(by("Service", {"x": to()}))))
    assert bench.uses.warnings == {}
    bench.push(GENERIC_RDS.url, translate(GENERIC_RDS.url, table(READS)))
    bench.store.drop(listener)
    bench.uses.look([listener])
    assert bench.uses.warnings == {}


def test_tables_of_the_same_name_and_another_type_are_others() -> None:
    bench = Bench()
    bench.push(GENERIC_RDS.url, translate(GENERIC_RDS.url, table(READS)))
    bench.push(LDS.url, bench.listener("cart", "thrift_proxy"))
    assert bench.uses.warnings == {}
    headers = [{"name": "tenant", "string_match": {"exact": "x"}}]
    route = {"match": {"method_name": "get", "headers": headers}, "route": {"cluster": "there"}}
    key = bench.push(TRDS.url, translate(TRDS.url, {"name": "table", "routes": [route]}))
    assert bench.uses.warnings == {key: (f"used by listener cart: {VOID}",)}


def test_static_listeners_use_tables_too() -> None:
    bench = Bench(Bench().listener("cart", "thrift"))
    key = bench.push(GENERIC_RDS.url, translate(GENERIC_RDS.url, table(READS)))
    assert bench.uses.warnings == {key: (f"used by listener cart: {VOID}",)}


def test_what_is_new_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.push(LDS.url, bench.listener("cart", "thrift"))
    bench.push(GENERIC_RDS.url, translate(GENERIC_RDS.url, table(READS)))
    bench.push(LDS.url, bench.listener("till", "dubbo"))
    assert [record.getMessage() for record in caplog.records] == [
        f"generic_proxy.RouteConfiguration table: used by listener cart: {VOID}"
    ]
