"""How a failed upstream stream is answered: flag, status, body and details by reset reason, as Envoy words them."""

from mosn_xds.base.errors import ResetReason, ResponseFlag
from mosn_xds.data.filters.api import Reply

FLAG_OF_RESET = {
    ResetReason.LOCAL_CONNECTION_FAILURE: int(ResponseFlag.UF),
    ResetReason.REMOTE_CONNECTION_FAILURE: int(ResponseFlag.UF),
    ResetReason.CONNECTION_TIMEOUT: int(ResponseFlag.UF),
    ResetReason.CONNECTION_TERMINATION: int(ResponseFlag.UC),
    ResetReason.LOCAL_RESET: int(ResponseFlag.LR),
    ResetReason.LOCAL_REFUSED: int(ResponseFlag.LR),
    ResetReason.OVERFLOW: int(ResponseFlag.UO),
    ResetReason.REMOTE_RESET: int(ResponseFlag.UR),
    ResetReason.REMOTE_REFUSED: int(ResponseFlag.UR),
    ResetReason.CONNECT_ERROR: int(ResponseFlag.UR),
    ResetReason.PROTOCOL_ERROR: int(ResponseFlag.UPE),
    ResetReason.OVERLOAD: int(ResponseFlag.OM),
    ResetReason.PREMATURE_HALF_CLOSE: int(ResponseFlag.UPE),
}
"""The response flag of each reset reason."""

_OVERLOADED = (b"x-envoy-overloaded", b"true")


def reset_details(reason: ResetReason, detail: str, *, started: bool) -> str:
    """``%RESPONSE_CODE_DETAILS%``; `started`: the response had begun. `detail` is the transport's own text."""
    when = "after" if started else "before"
    text = f"{reason.value}|{detail}" if detail else reason.value
    return f"upstream_reset_{when}_response_started{{{text.replace(' ', '_')}}}"


def reset_reply(reason: ResetReason, detail: str, *, retried: bool) -> Reply:
    """The answer to a request whose last attempt was reset before its response began."""
    text = "retried and the latest reset reason: " if retried else "reset reason: "
    return Reply(
        502 if reason is ResetReason.PROTOCOL_ERROR else 503,
        f"upstream connect error or disconnect/reset before headers. {text}{reason.value}".encode(),
        details=reset_details(reason, detail, started=False),
        flags=FLAG_OF_RESET[reason],
        fields=[_OVERLOADED] if reason is ResetReason.OVERFLOW else None,
    )
