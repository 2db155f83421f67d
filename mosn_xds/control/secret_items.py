"""The secrets of a Snapshot: what active clusters and listeners name, as Specs under the names that are unique in a worker.

They come from the store (SDS), from the bootstrap, and from the agent itself (keys for session tickets). A rotated secret
is one changed item; nothing that names it is touched. One that is missing is left out, and who names it refuses handshakes.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from mosn_xds.base.clock import Clock
from mosn_xds.control.slots import Slot
from mosn_xds.control.store import Good, ResourceKey, ResourceStore
from mosn_xds.control.ticket_keys import TicketKeys
from mosn_xds.control.translate.model import STATIC_SECRETS, Translated, secret_name
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.snapshot import Item, Kind, make_item
from mosn_xds.spec.tls import AGENT_TICKET_KEYS, Secret


class SecretItems:
    """See the module. `static` are the bootstrap's own; `token_bytes` makes that many unpredictable bytes."""

    def __init__(
        self,
        store: ResourceStore[Translated],
        static: Sequence[Secret],
        clock: Clock,
        token_bytes: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._static = _static_items(static)
        self._ticket_keys = TicketKeys(clock, token_bytes)
        self._made: dict[ResourceKey, tuple[Good[Translated], Item]] = {}
        self.changes_at: float | None = None
        """Monotonic seconds at which the secrets change by mere waiting."""

    def __repr__(self) -> str:
        return f"<SecretItems {len(self._made)} from SDS, {len(self._static)} static>"

    def items(self, slots: Collection[Slot]) -> Iterator[Item]:
        """What the active ones of `slots` need, and all of the bootstrap's."""
        yield from self._static
        made: dict[ResourceKey, tuple[Good[Translated], Item]] = {}
        for key in dict.fromkeys(key for slot in slots if slot.active is not None for key in slot.secrets):
            record = self._store.get(key)
            if record is None or record.good is None:
                continue
            known = self._made.get(key)
            if known is None or known[0] is not record.good:
                known = (record.good, _secret_item(key, record.good.product))
            made[key] = known
            yield known[1]
        self._made = made
        self.changes_at = None
        if any(slot.uses_ticket_keys for slot in slots if slot.active is not None):
            yield self._ticket_keys.item()
            self.changes_at = self._ticket_keys.next_at


def uses_ticket_keys(listener: Listener) -> bool:
    """Whether one of its contexts counts on the agent's own."""
    chains = listener.chains if listener.default_chain is None else (*listener.chains, listener.default_chain)
    return any(chain.tls is not None and chain.tls.ticket_secret == AGENT_TICKET_KEYS for chain in chains)


def _secret_item(key: ResourceKey, product: Translated) -> Item:
    name = secret_name(key.source, key.name)
    spec = product.spec
    if isinstance(spec, Secret):
        spec = msgspec.structs.replace(spec, name=name)
    return make_item(Kind.SECRET, name, spec)


def _static_items(secrets: Sequence[Secret]) -> tuple[Item, ...]:
    """Those of one name are of different kinds and become one."""
    found: dict[str, Secret] = {}
    for one in secrets:
        name = secret_name(STATIC_SECRETS, one.name)
        former = found.get(name, one)
        found[name] = Secret(
            name,
            one.certificate or former.certificate,
            one.validation or former.validation,
            one.ticket_keys or former.ticket_keys,
        )
    return tuple([make_item(Kind.SECRET, name, secret) for name, secret in found.items()])
