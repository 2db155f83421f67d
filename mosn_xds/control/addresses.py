"""Two listeners cannot have one address: which of them would a connection belong to?"""

from collections.abc import Iterable

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.ads.resource_types import LDS
from mosn_xds.control.store import ResourceKey, ResourceStore
from mosn_xds.control.translate.model import Translated
from mosn_xds.spec.common import Address
from mosn_xds.spec.listener import Listener


class AddressBook:
    """Who has which address; entries are claims, checked against the store before they count."""

    def __init__(self, store: ResourceStore[Translated], static: Iterable[Translated]) -> None:
        self._store = store
        self._static: dict[Address, str] = {}
        for product in static:
            if isinstance(product.spec, Listener):
                self._static.update(dict.fromkeys(product.spec.addresses, product.name))
        self._claims: dict[Address, ResourceKey] = {}

    def __repr__(self) -> str:
        return f"<AddressBook {len(self._static) + len(self._claims)} addresses>"

    def admit(self, key: ResourceKey, listener: Listener) -> None:
        """Raises ConfigError in Envoy's words if another listener has one of the addresses. A bound port 0 is nobody's."""
        addresses = [
            address for address in listener.addresses if address.port or address.is_pipe or not listener.bind_to_port
        ]
        for address in addresses:
            if self._owner(address) not in (None, key.name):
                raise ConfigError(
                    f"error adding listener: '{key.name}' has duplicate address '{address}' as existing listener, to "
                    "check if the listener has duplicated addresses with other listeners or 'enable_reuse_port' is set "
                    "to 'false' for the listener"
                )
        self._claims.update(dict.fromkeys(addresses, key))

    def _owner(self, address: Address) -> str | None:
        static = self._static.get(address)
        if static is not None:
            return static
        key = self._claims.get(address)
        record = self._store.get(key) if key is not None and key.type_url == LDS.url else None
        if key is None or record is None or record.good is None:
            return None
        spec = record.good.product.spec
        return key.name if isinstance(spec, Listener) and address in spec.addresses else None
