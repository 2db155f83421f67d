"""Route tables of RPC proxies that come on their own, looked at together with the listeners that use them.

A table is good or bad by itself; whether it has an effect depends on the protocols of whoever uses it. Neither is refused
for it: what is asked in vain is a warning about the table, there as long as the listener is.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from mosn_xds.control.ads.resource_types import DRDS, GENERIC_RDS, LDS, TRDS
from mosn_xds.control.store import ResourceKey, ResourceStore
from mosn_xds.control.translate.model import Translated
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.rpc import RpcProxy, RpcRouteTable
from mosn_xds.xds.messages import type_label

_TABLES = frozenset((GENERIC_RDS.url, DRDS.url, TRDS.url))

_log = logging.getLogger("mosn_xds.control")

Judge = Callable[[RpcProxy, RpcRouteTable], Sequence[str]]
"""What a proxy's protocols make void in a table: `translate.rpc_effects.without_effect`."""


class TableUses:
    """`warnings` are those of tables in use, by the table. `static` listeners are there beside Pilot's."""

    def __init__(self, store: ResourceStore[Translated], static: Iterable[Translated], judge: Judge) -> None:
        self._store = store
        self._static = [product for product in static if _asks_for_tables(product)]
        self._judge = judge
        self.warnings: Mapping[ResourceKey, tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"<TableUses {len(self.warnings)} with warnings>"

    def look(self, changed: Collection[ResourceKey]) -> None:
        """These resources have changed, come or gone. What is new is logged."""
        if not any(key.type_url == LDS.url or key.type_url in _TABLES for key in changed):
            return
        found: dict[ResourceKey, dict[str, None]] = {}
        good = [record.good.product for record in self._store.of_type(LDS.url) if record.good is not None]
        for product in (*self._static, *filter(_asks_for_tables, good)):
            for key, text in self._complaints(product):
                found.setdefault(key, {})[text] = None
        before, self.warnings = self.warnings, {key: tuple(texts) for key, texts in found.items()}
        for key, texts in self.warnings.items():
            for text in texts:
                if text not in before.get(key, ()):
                    _log.warning("%s %s: %s", type_label(key.type_url), key.name, text)

    def _complaints(self, product: Translated) -> Iterable[tuple[ResourceKey, str]]:
        tables: dict[str, tuple[ResourceKey, RpcRouteTable]] = {}
        for need in product.needs:
            key = ResourceKey(str(need.source), need.type_url, need.name)
            record = self._store.get(key) if need.type_url in _TABLES else None
            table = None if record is None or record.good is None else record.good.product.spec
            if isinstance(table, RpcRouteTable):
                tables[table.name] = key, table
        for proxy in _proxies(product):
            if proxy.rds in tables:
                key, table = tables[proxy.rds]
                for text in self._judge(proxy, table):
                    yield key, f"used by listener {product.name}: {text}"


def _asks_for_tables(product: Translated) -> bool:
    return any(need.type_url in _TABLES for need in product.needs)


def _proxies(product: Translated) -> Iterable[RpcProxy]:
    if isinstance(product.spec, Listener):
        chains = product.spec.chains
        for chain in chains if product.spec.default_chain is None else (*chains, product.spec.default_chain):
            for network_filter in chain.filters:
                if isinstance(network_filter, RpcProxy):
                    yield network_filter
