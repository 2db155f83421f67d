"""What the log says of a protocol that raises what it must not: each kind of exception once, with its traceback.

Whoever sends the frames decides how often it happens; so the log gets the first of a kind, and statistics count them all.
"""

import logging
from typing import Final

from mosn_xds.data.codec.rpc.protocol import RpcProtocol

MOST_KINDS: Final = 20
"""Kinds that are told apart; further ones are only counted."""

_log = logging.getLogger("mosn_xds.rpc")


class FailureLog:
    """Of the protocols of one proxy, or of one cluster."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: set[tuple[str, str, str]] = set()

    def tell(self, protocol: RpcProtocol, doing: str, error: Exception, costs: str) -> None:
        """Log what `protocol` raised, `doing` something (``in from_server``), and what that `costs` whom."""
        kind = type(protocol)
        key = (protocol.name, doing, type(error).__qualname__)
        if key in self._told or len(self._told) >= MOST_KINDS:
            return
        self._told.add(key)
        _log.error(
            "protocol %s (%s.%s) raised %s %s: %s; further ones are only counted (protocol_exceptions)",
            protocol.name, kind.__module__, kind.__qualname__, type(error).__qualname__, doing, costs,
            exc_info=error,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<FailureLog {len(self._told)} kinds>"
