"""Why a connection could not be made, in Envoy's words: the reset reason and the transport failure of logs and details."""

import errno

from mosn_xds.base.errors import ResetReason
from mosn_xds.data.net.consumer import CloseReason
from mosn_xds.data.net.dial import DialOptions
from mosn_xds.data.net.wire import Wire
from mosn_xds.spec.common import Address

_DELAYED = frozenset((errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET))
"""What the network answers; every other error is the system's, at once."""
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_BIND_ERRORS = frozenset((errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.EACCES, errno.EINVAL))


def connect_failure(
    wire: Wire, close_reason: CloseReason, address: Address, options: DialOptions
) -> tuple[ResetReason, str]:
    """For a wire that has ended before it was connected."""
    if close_reason is CloseReason.CONNECT_TIMEOUT:
        return ResetReason.CONNECTION_TIMEOUT, ""
    error = wire.error
    if error is None:
        return ResetReason.LOCAL_CONNECTION_FAILURE, ""
    if close_reason is CloseReason.HANDSHAKE_FAILED:
        return ResetReason.REMOTE_CONNECTION_FAILURE, error.strerror or ""
    text = error.strerror or str(error)
    if is_bind_error(wire, options):
        return ResetReason.LOCAL_CONNECTION_FAILURE, f"failed to bind to {options.source}: {text}"
    if error.errno in _EXHAUSTED:
        return ResetReason.LOCAL_CONNECTION_FAILURE, text
    if error.errno in _DELAYED and not address.is_pipe:
        return ResetReason.REMOTE_CONNECTION_FAILURE, f"delayed connect error: {text}"
    return ResetReason.REMOTE_CONNECTION_FAILURE, f"immediate connect error: {text}|remote address:{address}"


def is_bind_error(wire: Wire, options: DialOptions) -> bool:
    """Whether the source address of `options` could not be used."""
    return options.source is not None and wire.error is not None and wire.error.errno in _BIND_ERRORS
