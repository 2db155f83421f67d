"""What went wrong, in terms that every protocol can answer: response flags, reset reasons, one error type.

`ResponseFlag` and `ResetReason` carry Envoy's own names (source/common/stream_info/utility.h, codec helper), for they
appear in access logs and bodies that people grep for. `ConfigError` is for configuration: it names the place and the cause.
"""

from enum import Enum, IntFlag


class ResponseFlag(IntFlag):
    """Why a request or connection ended as it did; `%RESPONSE_FLAGS%` in access logs. Several may hold at once."""

    DC = 1 << 0
    LH = 1 << 1
    UH = 1 << 2
    UT = 1 << 3
    LR = 1 << 4
    UR = 1 << 5
    UF = 1 << 6
    UC = 1 << 7
    UO = 1 << 8
    NR = 1 << 9
    DI = 1 << 10
    FI = 1 << 11
    RL = 1 << 12
    UAEX = 1 << 13
    RLSE = 1 << 14
    URX = 1 << 15
    SI = 1 << 16
    IH = 1 << 17
    DPE = 1 << 18
    UMSDR = 1 << 19
    RFCF = 1 << 20
    NFCF = 1 << 21
    DT = 1 << 22
    UPE = 1 << 23
    NC = 1 << 24
    OM = 1 << 25
    DF = 1 << 26
    DO = 1 << 27
    DR = 1 << 28
    UDO = 1 << 29


_FLAG_NAMES = tuple((int(flag), flag.name or "") for flag in ResponseFlag)
_URX = int(ResponseFlag.URX)


def flag_names(flags: int, *, retry_first: bool = False) -> str:
    """`%RESPONSE_FLAGS%`: short names joined by commas, ``-`` for none. Takes a plain int, as the hot path keeps one.

    Envoy prints flags in the order in which they were set: the HTTP router notes the retry that it could not make before
    what that would have mended (`retry_first`), the TCP proxy after it.
    """
    if not flags:
        return "-"
    if retry_first and flags & _URX and flags != _URX:
        return f"URX,{flag_names(flags & ~_URX)}"
    return ",".join(name for bit, name in _FLAG_NAMES if flags & bit)


class ResetReason(Enum):
    """Why an upstream stream ended before its response did; the value is Envoy's text in bodies and details."""

    LOCAL_CONNECTION_FAILURE = "local connection failure"
    REMOTE_CONNECTION_FAILURE = "remote connection failure"
    CONNECTION_TIMEOUT = "connection timeout"
    CONNECTION_TERMINATION = "connection termination"
    LOCAL_RESET = "local reset"
    LOCAL_REFUSED = "local refused stream reset"
    OVERFLOW = "overflow"
    REMOTE_RESET = "remote reset"
    REMOTE_REFUSED = "remote refused stream reset"
    CONNECT_ERROR = "remote error with CONNECT request"
    PROTOCOL_ERROR = "protocol error"
    OVERLOAD = "overload manager reset"
    PREMATURE_HALF_CLOSE = "HTTP/1 premature upstream half close"


class ConfigError(Exception):
    """Configuration that cannot be used.

    `path` is the field path inside the resource (``filter_chains[0].filters[1]``, empty for the whole), `reason` the
    cause in Envoy's words where it has them, `hint` what to do about it. ``str()`` is the reason with its place.
    """

    def __init__(self, reason: str, *, path: str = "", hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path
        self.hint = hint

    def under(self, prefix: str) -> "ConfigError":
        """The same error seen from one level further out."""
        path = f"{prefix}.{self.path}" if self.path else prefix
        return ConfigError(self.reason, path=path, hint=self.hint)

    def __str__(self) -> str:
        text = f"{self.path}: {self.reason}" if self.path else self.reason
        return f"{text} ({self.hint})" if self.hint else text
