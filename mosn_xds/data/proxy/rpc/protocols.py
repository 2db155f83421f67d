"""From the names of protocols to the protocols themselves, by entry point, ours like those of third parties.

The agent has asked the same class about the same options before (`mosn_xds.spec.extensions`), so an error here means that
agent and worker do not see the same packages, or that the class fails when an object is made of it.

A worker looks through what is installed once, when the first protocol is asked for: that takes milliseconds, and a mesh has
thousands of chains. Protocols are without state, so that equal uses are one object.
"""

from collections.abc import Sequence
from typing import Final

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.codec.rpc import RpcProtocol
from mosn_xds.spec.extensions import PROTOCOLS, Extensions
from mosn_xds.spec.rpc import ProtocolUse

_MOST_SHARED: Final = 100


class Protocols:
    """Those of one worker."""

    __slots__ = ("_built", "_known")

    def __init__(self) -> None:
        self._known: Extensions | None = None
        self._built: dict[ProtocolUse, RpcProtocol] = {}

    def build(self, uses: Sequence[ProtocolUse]) -> tuple[RpcProtocol, ...]:
        """The protocols in order. Raises ConfigError with the place of one that cannot be built."""
        found = []
        for position, use in enumerate(uses):
            try:
                found.append(self._built.get(use) or self._build(use))
            except ConfigError as error:
                raise error.under(f"protocols[{position}]") from None
        return tuple(found)

    def _build(self, use: ProtocolUse) -> RpcProtocol:
        known = self._known
        if known is None:
            known = self._known = Extensions(PROTOCOLS)
        kind = known.load(use.entry)
        if not issubclass(kind, RpcProtocol):
            raise ConfigError(f"{PROTOCOLS}: {use.entry}: {kind.__qualname__} is no RpcProtocol")
        built = kind(kind.decode_options(use.options))
        if len(self._built) >= _MOST_SHARED:
            self._built.clear()  # what is in use stays with its users; what is configured no more goes
        self._built[use] = built
        return built

    def __repr__(self) -> str:
        return f"<Protocols {' '.join(use.entry for use in self._built)}>"
