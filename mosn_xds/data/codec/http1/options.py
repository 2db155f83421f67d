"""What a listener or a cluster may choose about its HTTP/1."""

from dataclasses import dataclass
from enum import Enum


class HeaderKeyFormat(Enum):
    """In which case field names are written (`Http1ProtocolOptions.header_key_format`); lower-case when not configured.

    PRESERVE writes names as they were received; the receiving side needs it too, to remember them.
    """

    PROPER_CASE = "proper_case_words"
    PRESERVE = "preserve_case"


class UnderscoreAction(Enum):
    """What to do with a request field whose name has an underscore (`HeadersWithUnderscoresAction`)."""

    ALLOW = "allow"
    REJECT_REQUEST = "reject_request"
    DROP_HEADER = "drop_header"


@dataclass(frozen=True, slots=True)
class Http1Options:
    """`Http1ProtocolOptions`, and the limits of `HttpConnectionManager` and `HttpProtocolOptions` that hold in the codec.

    `max_headers_bytes` counts the head as it is on the wire, first and blank line included, and the trailer section
    likewise. Envoy's default is 60 KiB for requests, 80 KiB for responses. `max_headers_count` counts every line of it
    but the first. `allow_chunked_length` accepts a request with both lengths and drops Content-Length; it is a door for
    request smuggling.
    """

    max_headers_bytes: int = 60 * 1024
    max_headers_count: int = 100
    accept_http_10: bool = False
    default_host_for_http_10: bytes = b""
    enable_trailers: bool = False
    header_key_format: HeaderKeyFormat | None = None
    allow_absolute_url: bool = True
    allow_chunked_length: bool = False
    underscores: UnderscoreAction = UnderscoreAction.ALLOW
