"""The contract between a Wire and whoever stands above it: a codec's connection, a TCP proxy.

A consumer is called by its wire and calls it back, under these rules:

* Nothing that a consumer calls on a wire calls a consumer before it returns; `Wire.write_through` alone may call
  `on_above_high_water`. Closes are reported at the end of the reactor's batch.
* `on_closed` comes exactly once, whoever ended the connection and however, and nothing comes after it. (A wire that was
  detached has not ended: it says nothing.)
* Each direction ends on its own: `on_eof` is the peer's FIN, `Wire.shutdown_write` ours. When both have happened and all
  output is sent, the connection is FINISHED.
* After `on_above_high_water` a consumer should stop the source of what it writes, until `on_below_low_water`. Nothing is
  lost if it does not, but memory.
"""

from enum import Enum
from typing import Protocol


class CloseReason(Enum):
    """How a connection ended."""

    LOCAL = "closed by us"
    FINISHED = "both sides ended"
    REMOTE_CLOSE = "closed by the peer while reading was stopped"
    """Only on a wire with `early_close`."""
    REMOTE_RESET = "connection lost"
    """Reset, unreachable, keep-alive timed out: `Wire.error` says which."""
    DELAYED_CLOSE_TIMEOUT = "peer did not close in time"
    CONNECT_FAILED = "connect failed"
    CONNECT_TIMEOUT = "connect timed out"
    HANDSHAKE_FAILED = "handshake failed"
    HANDLER_FAILED = "a handler failed"


class WireConsumer(Protocol):
    """What stands above a wire; the module's text has the rules."""

    def on_connected(self) -> None:
        """A dialed connection, or a handshake, is complete. Never called for an accepted connection in plaintext."""
        ...

    def on_data(self, data: bytes) -> None:
        """Never empty."""
        ...

    def on_eof(self) -> None:
        """The peer sends nothing more. Writing goes on until the consumer ends that, too."""
        ...

    def on_closed(self, reason: CloseReason) -> None:
        """The connection is gone, and the wire refers to this consumer no more."""
        ...

    def on_above_high_water(self) -> None:
        """The socket does not keep up: more than the buffer limit waits."""
        ...

    def on_below_low_water(self) -> None:
        """At most half of the buffer limit waits; always after `on_above_high_water`."""
        ...


class Nobody:
    """A consumer that does not care: what a wire has when its own is gone."""

    def on_connected(self) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_eof(self) -> None: ...

    def on_closed(self, reason: CloseReason) -> None: ...

    def on_above_high_water(self) -> None: ...

    def on_below_low_water(self) -> None: ...
