"""Clients that open streams only to reset them (CVE-2023-44487): Envoy's `maybeDrainDueToPrematureResets`.

A stream that the client resets within a second, before it was answered, was opened in vain. A connection of which half the
streams were is cut off once there have been five hundred, or as soon as that cannot be averted.
"""

_TOTAL_STREAMS = 500
"""Envoy's overload.premature_reset_total_stream_count."""
_MIN_LIFETIME_S = 1.0
"""Envoy's overload.premature_reset_min_stream_lifetime_seconds."""


class PrematureResets:
    """Of one connection."""

    __slots__ = ("_closed", "_premature")

    def __init__(self) -> None:
        self._closed = 0
        self._premature = 0

    def closed(self) -> None:
        """A stream has ended otherwise."""
        self._closed += 1

    def reset(self, lifetime_s: float, *, answered: bool) -> bool:
        """The client has reset a stream. Returns whether that is too much."""
        self._closed += 1
        if answered or lifetime_s > _MIN_LIFETIME_S:
            return False
        self._premature += 1
        return self._premature * 2 >= max(_TOTAL_STREAMS, self._closed)

    def __repr__(self) -> str:
        return f"<PrematureResets {self._premature} of {self._closed} streams>"
