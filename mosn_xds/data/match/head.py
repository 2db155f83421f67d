"""What matchers read of a message's head, whatever protocol it came by.

The heads themselves live with the codecs, which this package must not know; any object of this shape can be matched, so
Bolt and Dubbo requests are routed, hashed and logged by the same code. Header names are lower-case, values are trimmed,
`fields` is in wire order and keeps duplicates; pseudo-headers are attributes, not fields.
"""

from typing import Protocol

Fields = list[tuple[bytes, bytes]]


class HeadView(Protocol):
    """A request's or response's header fields. With `keeps_case` their names are in any case, and `get_all` knows what to
    make of that."""

    @property
    def keeps_case(self) -> bool: ...

    @property
    def fields(self) -> Fields: ...

    def get_all(self, name: bytes) -> list[bytes]:
        """Every value of a header in wire order; answers to pseudo-header names and ``host`` too."""
        ...


class PeerView(Protocol):
    """What routes may ask of the client's TLS connection."""

    @property
    def presented(self) -> bool:
        """It showed a certificate."""
        ...

    @property
    def verified(self) -> bool:
        """Its certificate was checked and is good."""
        ...


class RequestView(HeadView, Protocol):
    """A request's head. `authority` is None and `path` empty when absent."""

    @property
    def method(self) -> bytes: ...

    @property
    def scheme(self) -> bytes: ...

    @property
    def authority(self) -> bytes | None: ...

    @property
    def path(self) -> bytes: ...
