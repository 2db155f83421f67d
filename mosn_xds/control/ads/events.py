"""What an ADS stream says, as values: the dialects, and the events that `AdsProtocol` reads out of a response.

They carry bytes and names, never decoded resources; whoever consumes them need not know the wire.
"""

from dataclasses import dataclass
from enum import Enum

from mosn_xds.control.ads.resource_types import ResourceType


class Variant(Enum):
    """The dialect of a stream."""

    SOTW = "sotw"
    DELTA = "delta"


class ProtocolError(Exception):
    """The peer sent bytes that are no discovery response: this stream cannot go on."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource as received. `raw` is exactly the bytes of its Any: re-serialised messages differ."""

    name: str
    version: str
    raw: bytes
    type_url: str

    def __repr__(self) -> str:
        """Without its bytes, which may be a private key."""
        return f"<Resource {self.name} {self.version} {len(self.raw)} bytes>"


@dataclass(frozen=True, slots=True)
class Response:
    """A response that waits for its verdict: hand it to `accept` or `reject`, once.

    `complete` says that resources of the type which are absent here no longer exist. `faults` are resources that could
    not even be named; with any, the response is not complete and must be rejected.
    """

    type: ResourceType
    version: str
    nonce: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()
    complete: bool = False
    faults: tuple[str, ...] = ()
    unrequested: tuple[str, ...] = ()
    """Names left out because nobody asked for them."""
    stream: int = 0

    def __repr__(self) -> str:
        return (
            f"<Response {self.type.short} {self.version} {len(self.resources)} resources, {len(self.removed)} removed>"
        )


@dataclass(frozen=True, slots=True)
class Rejected:
    """A response refused as a whole, its NACK already queued: nothing of it may be used."""

    type: ResourceType
    version: str
    nonce: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A response of a type that nobody asked for: worth a warning, answered with silence."""

    type_url: str
    reason: str


Event = Response | Rejected | Ignored
