"""Long names: response flags and gRPC statuses as access logs spell them."""

from mosn_xds.base.errors import ResponseFlag

_LONG = {
    ResponseFlag.DC: "DownstreamConnectionTermination",
    ResponseFlag.LH: "FailedLocalHealthCheck",
    ResponseFlag.UH: "NoHealthyUpstream",
    ResponseFlag.UT: "UpstreamRequestTimeout",
    ResponseFlag.LR: "LocalReset",
    ResponseFlag.UR: "UpstreamRemoteReset",
    ResponseFlag.UF: "UpstreamConnectionFailure",
    ResponseFlag.UC: "UpstreamConnectionTermination",
    ResponseFlag.UO: "UpstreamOverflow",
    ResponseFlag.NR: "NoRouteFound",
    ResponseFlag.DI: "DelayInjected",
    ResponseFlag.FI: "FaultInjected",
    ResponseFlag.RL: "RateLimited",
    ResponseFlag.UAEX: "UnauthorizedExternalService",
    ResponseFlag.RLSE: "RateLimitServiceError",
    ResponseFlag.URX: "UpstreamRetryLimitExceeded",
    ResponseFlag.SI: "StreamIdleTimeout",
    ResponseFlag.IH: "InvalidEnvoyRequestHeaders",
    ResponseFlag.DPE: "DownstreamProtocolError",
    ResponseFlag.UMSDR: "UpstreamMaxStreamDurationReached",
    ResponseFlag.RFCF: "ResponseFromCacheFilter",
    ResponseFlag.NFCF: "NoFilterConfigFound",
    ResponseFlag.DT: "DurationTimeout",
    ResponseFlag.UPE: "UpstreamProtocolError",
    ResponseFlag.NC: "NoClusterFound",
    ResponseFlag.OM: "OverloadManagerTerminated",
    ResponseFlag.DF: "DnsResolutionFailed",
    ResponseFlag.DO: "DropOverload",
    ResponseFlag.DR: "DownstreamRemoteReset",
    ResponseFlag.UDO: "UnconditionalDropOverload",
}

GRPC_STATUS_NAMES = (
    (b"OK", b"OK"),
    (b"Canceled", b"CANCELLED"),
    (b"Unknown", b"UNKNOWN"),
    (b"InvalidArgument", b"INVALID_ARGUMENT"),
    (b"DeadlineExceeded", b"DEADLINE_EXCEEDED"),
    (b"NotFound", b"NOT_FOUND"),
    (b"AlreadyExists", b"ALREADY_EXISTS"),
    (b"PermissionDenied", b"PERMISSION_DENIED"),
    (b"ResourceExhausted", b"RESOURCE_EXHAUSTED"),
    (b"FailedPrecondition", b"FAILED_PRECONDITION"),
    (b"Aborted", b"ABORTED"),
    (b"OutOfRange", b"OUT_OF_RANGE"),
    (b"Unimplemented", b"UNIMPLEMENTED"),
    (b"Internal", b"INTERNAL"),
    (b"Unavailable", b"UNAVAILABLE"),
    (b"DataLoss", b"DATA_LOSS"),
    (b"Unauthenticated", b"UNAUTHENTICATED"),
)
"""By status number: as ``CAMEL_STRING`` and as ``SNAKE_STRING`` has it."""


def long_flag_names(flags: int) -> str:
    """``%RESPONSE_FLAGS_LONG%``: joined by commas in the order of the bits, ``-`` for none."""
    return ",".join(name for flag, name in _LONG.items() if flags & flag) or "-"
