"""Keys for session tickets of contexts that name none: made by the agent, so that a session goes on in any worker.

The first key is replaced every day and the one before it stays behind it for another day, as `TlsSessionTicketKeys` has them:
workers decrypt with both. They are kept in memory only: a ticket of a former process means a full handshake, no more.
"""

from collections.abc import Callable

from mosn_xds.base.clock import Clock
from mosn_xds.control.translate.secret import TICKET_KEY_BYTES
from mosn_xds.spec.snapshot import Item, Kind, make_item
from mosn_xds.spec.tls import AGENT_TICKET_KEYS, Secret

ROTATION_S = 24 * 3600.0


class TicketKeys:
    """See the module. `token_bytes` makes that many unpredictable bytes."""

    def __init__(self, clock: Clock, token_bytes: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._token_bytes = token_bytes
        self._keys: tuple[bytes, ...] = ()
        self._item: Item | None = None
        self.next_at = 0.0
        """Monotonic seconds at which the keys change."""

    def __repr__(self) -> str:
        return f"<TicketKeys {len(self._keys)}>"

    def item(self) -> Item:
        """The keys that hold now, as a Secret for workers."""
        now = self._clock.monotonic()
        if self._item is None or now >= self.next_at:
            self._keys = (self._token_bytes(TICKET_KEY_BYTES), *self._keys[:1])
            self._item = make_item(Kind.SECRET, AGENT_TICKET_KEYS, Secret(AGENT_TICKET_KEYS, ticket_keys=self._keys))
            self.next_at = now + ROTATION_S
        return self._item
