"""The control half as the agent runs it: a bootstrap's discovery, wired to the supervisor.

Snapshots go to the supervisor; a listener's addresses are bound before it is accepted, so that Pilot hears of a port that is
taken; what could not be bound is tried again while the process runs.
"""

import random
from collections.abc import Collection

from mosn_xds.base.clock import Clock
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.ads.resource_types import LDS
from mosn_xds.control.bootstrap import Bootstrap
from mosn_xds.control.discovery import Discovery
from mosn_xds.control.identity.ca_client import IstiodClient
from mosn_xds.control.identity.identity import Identity
from mosn_xds.control.identity.settings import IdentitySettings
from mosn_xds.control.resolve import Resolver
from mosn_xds.control.store import ResourceKey
from mosn_xds.control.table_uses import TableUses
from mosn_xds.control.translate.model import Options, Translated
from mosn_xds.control.translate.translator import Translator
from mosn_xds.process.lifecycle import ServerState
from mosn_xds.process.supervise import Supervisor
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.snapshot import Snapshot

REMOVED_SHOWN_S = 5.0
"""Long enough for workers to say whether a removed listener still has connections."""


class Configuration:
    """See the module; the agent's `ControlHalf`. `discovery` is open to whoever shows it."""

    def __init__(
        self,
        bootstrap: Bootstrap,
        supervisor: Supervisor,
        stats: StatRegistry,
        clock: Clock,
        *,
        reject_unknown_fields: bool = False,
        identity: IdentitySettings | None = None,
    ) -> None:
        """`identity`: where the workload's certificate comes from, if not from the bootstrap's cluster for it."""
        self.bootstrap = bootstrap
        self.removed_listeners: dict[str, tuple[bytes, float]] = {}
        """Listeners that were removed while they had connections: their bytes, and when (wall-clock seconds)."""
        self._known_listeners: dict[str, bytes] = {}
        self._clock = clock
        self._supervisor = supervisor
        translator = Translator(
            bootstrap.node,
            Options(
                reject_unknown_fields=reject_unknown_fields,
                runtime=bootstrap.runtime,
                secrets=bootstrap.secrets,
                clock=clock,
            ),
        )
        chance = random.Random()
        self.identity: Identity | None = None
        if identity is not None:
            ca = None if identity.ca is None else IstiodClient(identity.ca.target)
            self.identity = Identity(identity, clock, chance, stats, ca=ca)
        self.discovery = Discovery(
            bootstrap,
            translator.translate,
            self._publish,
            Resolver(),
            clock,
            chance,
            stats,
            admit=self._admit,
            observe=self._note,
            identity=self.identity,
        )
        static = [one.translated for one in bootstrap.listeners]
        self.table_uses = TableUses(self.discovery.store, static, translator.without_effect)

    def __repr__(self) -> str:
        return f"<Configuration {self.discovery!r}>"

    @property
    def state(self) -> ServerState:
        return ServerState(self.discovery.assembler.initialization)

    @property
    def required_listeners(self) -> Collection[str]:
        """The static ones: the process is not ready before they are bound."""
        return [resource.translated.name for resource in self.bootstrap.listeners]

    async def wait_live(self) -> None:
        await self.discovery.assembler.live.wait()

    async def run(self) -> None:
        await self.discovery.run()

    def _publish(self, snapshot: Snapshot) -> None:
        self._supervisor.publish(snapshot)

    def _admit(self, key: ResourceKey, product: Translated) -> None:
        """See `intake.Admit`."""
        if isinstance(product.spec, Listener):
            self._supervisor.attainable.reserve(product.spec)

    def _note(self, keys: Collection[ResourceKey]) -> None:
        self.table_uses.look(keys)
        self._note_listeners(keys)

    def _note_listeners(self, keys: Collection[ResourceKey]) -> None:
        """A listener that is gone needs no reservation, and is shown as long as it drains."""
        for key in keys:
            if key.type_url != LDS.url:
                continue
            record = self.discovery.store.get(key)
            if record is None:
                self._supervisor.attainable.release(key.name)
                raw = self._known_listeners.pop(key.name, None)
                if raw is not None:
                    self.removed_listeners[key.name] = (raw, self._clock.wall())
            elif record.good is not None:
                self._known_listeners[key.name] = record.good.raw
                self.removed_listeners.pop(key.name, None)
        draining = {name for slot in self._supervisor.slots for name in slot.draining}
        expired = self._clock.wall() - REMOVED_SHOWN_S
        self.removed_listeners = {
            name: (raw, at) for name, (raw, at) in self.removed_listeners.items() if name in draining or at > expired
        }
