"""Bolt's status codes, and what they are in HTTP's terms and out of them.

An answer of the proxy's own says in Bolt's terms what HTTP's status and the reason say in theirs, such that Java's client
(SOFABolt's `RpcResponseResolver`) throws what its caller would catch without a proxy:

=============================================  =========================  =======================================
HTTP                                           Bolt                       Java's client throws
=============================================  =========================  =======================================
200                                            0 SUCCESS                  nothing
400                                            9 CODEC_EXCEPTION          CodecException
401, 403                                       2 SERVER_EXCEPTION         InvokeServerException
404 (no route), 503 (no cluster)               6 NO_PROCESSOR             InvokeException that names the status
408, 504                                       7 TIMEOUT                  InvokeTimeoutException
429, 503 (overload)                            4 SERVER_THREADPOOL_BUSY   InvokeServerBusyException
502, 503 (no healthy host, connection failed)  16 CONNECTION_CLOSED       ConnectionClosedException
any other                                      3 UNKNOWN                  InvokeException that names the status
=============================================  =========================  =======================================

The other way round, for retries and statistics, as MOSN has it: 0 is 200, 4 is 503, 7 is 504, 16 is 502, all others 500.
"""

from enum import IntEnum
from typing import Final


class Status(IntEnum):
    """SOFABolt's `ResponseStatus`."""

    SUCCESS = 0
    ERROR = 1
    SERVER_EXCEPTION = 2
    UNKNOWN = 3
    SERVER_THREADPOOL_BUSY = 4
    ERROR_COMM = 5
    NO_PROCESSOR = 6
    TIMEOUT = 7
    CLIENT_SEND_ERROR = 8
    CODEC_EXCEPTION = 9
    CONNECTION_CLOSED = 16
    SERVER_SERIAL_EXCEPTION = 17
    SERVER_DESERIAL_EXCEPTION = 18


def status_for(http: int, reason: str) -> Status:
    """What to answer where HTTP would answer `http`; `reason` tells a 503 for overload from one for lack of a server."""
    if http == 503:
        for word, status in _OF_503:
            if word in reason:
                return status
    return _OF_HTTP.get(http, Status.UNKNOWN)


HTTP_OF: Final[dict[int, int]] = {
    Status.SUCCESS: 200,
    Status.SERVER_THREADPOOL_BUSY: 503,
    Status.TIMEOUT: 504,
    Status.CONNECTION_CLOSED: 502,
}
"""HTTP's status by Bolt's, where it is not 500."""

_OF_HTTP: Final = {
    200: Status.SUCCESS,
    400: Status.CODEC_EXCEPTION,
    401: Status.SERVER_EXCEPTION,
    403: Status.SERVER_EXCEPTION,
    404: Status.NO_PROCESSOR,
    408: Status.TIMEOUT,
    429: Status.SERVER_THREADPOOL_BUSY,
    502: Status.CONNECTION_CLOSED,
    503: Status.SERVER_THREADPOOL_BUSY,
    504: Status.TIMEOUT,
}
# By words of the texts and details of local replies: "upstream connect error or ... reset reason: overflow",
# no_healthy_upstream, cluster_not_found.
_OF_503: Final = (
    ("overflow", Status.SERVER_THREADPOOL_BUSY),
    ("cluster", Status.NO_PROCESSOR),
    ("healthy", Status.CONNECTION_CLOSED),
    ("connect", Status.CONNECTION_CLOSED),
    ("reset", Status.CONNECTION_CLOSED),
)
