"""Places for things that are replaced make-before-break: what is active under a name, and what warms to succeed it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mosn_xds.control.store import Good, ResourceKey
from mosn_xds.control.translate.model import Translated
from mosn_xds.spec.snapshot import Item, Kind


@dataclass(slots=True)
class Slot:
    """What serves under one name, and what is to replace it. Times are monotonic seconds."""

    name: str
    active: Good[Translated] | None = None
    items: tuple[Item, ...] = ()
    """What the active one is to a worker: its Spec and those that came inside, encoded."""
    endpoints: tuple[ResourceKey, ...] = ()
    """Where the active one's endpoints are in the store."""
    secrets: tuple[ResourceKey, ...] = ()
    """Where the active one's secrets are in the store."""
    uses_ticket_keys: bool = False
    """The active one is a listener that uses the agent's own session ticket keys."""
    candidate: Good[Translated] | None = None
    candidate_since: float = 0.0
    held_since: float = 0.0
    """Since when there has been a candidate, this one or another that it replaced."""
    waits_for: tuple[str, ...] = ()
    """What holds the candidate up, in words."""
    gone_since: float | None = None
    """When Pilot took it away."""

    def __repr__(self) -> str:
        state = "active" if self.active is not None else "not active"
        waits = f", successor waits for {', '.join(self.waits_for)}" if self.candidate is not None else ""
        return f"<Slot {self.name} {state}{waits}>"

    @property
    def warms_first(self) -> bool:
        """Nothing serves here yet, and something is about to."""
        return self.active is None and self.candidate is not None

    def propose(self, good: Good[Translated], now: float) -> bool:
        """`good` is what ought to serve; False if it does already."""
        self.gone_since = None
        if self.active is good:
            self.candidate = None
            self.waits_for = ()
            return False
        if self.candidate is None:
            self.held_since = now
        if self.candidate is not good:
            self.candidate = good
            self.candidate_since = now
        return True

    def withdraw(self, now: float) -> None:
        """Nothing ought to serve here any more."""
        self.candidate = None
        self.waits_for = ()
        if self.gone_since is None:
            self.gone_since = now


@dataclass(slots=True)
class Deadline:
    """The earliest moment at which mere waiting changes something."""

    at: float = field(default=float("inf"))

    def passed(self, moment: float, now: float) -> bool:
        """Whether `moment` has come; if not, it is to be waited for."""
        if now >= moment:
            return True
        self.at = min(self.at, moment)
        return False


def origin(slots: Mapping[ResourceKey, Slot], kind: Kind, name: str) -> ResourceKey | None:
    """The resource that is `kind` and `name` to workers: kinds of resource may be fewer there, and names longer."""
    for key, slot in slots.items():
        if any(item.kind is kind and item.name == name for item in slot.items):
            return key
    return None
