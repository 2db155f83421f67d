"""From the names of protocols to the protocols themselves, by entry point, ours like those of third parties.

The agent has asked the same class about the same options before (`mosn_xds.spec.extensions`), so an error here means that
agent and worker do not see the same packages, or that the class fails when an object is made of it.
"""

from collections.abc import Sequence

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.codec.rpc import RpcProtocol
from mosn_xds.spec.extensions import PROTOCOLS, Extensions
from mosn_xds.spec.rpc import ProtocolUse


def build_protocols(uses: Sequence[ProtocolUse]) -> tuple[RpcProtocol, ...]:
    """The protocols in order. Raises ConfigError with the place of one that cannot be built."""
    if not uses:
        return ()  # most listeners: what is installed is looked through for nobody
    known = Extensions(PROTOCOLS)
    built = []
    for position, use in enumerate(uses):
        try:
            kind = known.load(use.entry)
            if not issubclass(kind, RpcProtocol):
                raise ConfigError(f"{PROTOCOLS}: {use.entry}: {kind.__qualname__} is no RpcProtocol")
            built.append(kind(kind.decode_options(use.options)))
        except ConfigError as error:
            raise error.under(f"protocols[{position}]") from None
    return tuple(built)
