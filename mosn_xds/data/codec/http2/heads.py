"""Between HTTP/2's header lists and heads: pseudo headers, cookies, upgrades.

An upgrade in HTTP/1 (``GET`` with ``upgrade: websocket``, answered 101) is an extended CONNECT in HTTP/2 (RFC 8441: with
``:protocol``, answered 200). A head always shows HTTP/1's form, as in Envoy, so that nobody above cares: reading turns an
extended CONNECT into such a GET, writing turns it back. Limits are checked here, in Envoy's terms: the bytes of names and
values and the number of fields, pseudo headers included.
"""

from collections.abc import Sequence
from typing import Any, Final

from mosn_xds.data.codec.head import Field, Fields, RequestHead, ResponseHead, Version
from mosn_xds.data.codec.http1.options import UnderscoreAction
from mosn_xds.data.codec.http1.rules import METHODS
from mosn_xds.data.codec.http2 import codes
from mosn_xds.data.codec.http2.options import Http2Options
from mosn_xds.data.codec.http2.stats import Http2Stats

_HTTP2: Final = Version.HTTP2
_SCHEMES: Final = frozenset((b"http", b"https"))
_TAKEN_OUT: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol", b"host", b"cookie"))
_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"upgrade", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"http2-settings", b"host")
)
_UPGRADE: Final = b"upgrade"


class Overflow(Exception):
    """A header section beyond the limits, or with a name that is not wanted; the text is Envoy's details."""


def check_limits(fields: Sequence[Field], options: Http2Options, stats: Http2Stats) -> None:
    """Raises `Overflow` where a header section is beyond the limits."""
    size = 0
    for name, value in fields:
        size += len(name) + len(value)
    _check(len(fields), size, options, stats)


def _check(count: int, size: int, options: Http2Options, stats: Http2Stats) -> None:
    if count > options.max_headers_count:
        stats.header_overflow += 1
        raise Overflow(codes.TOO_MANY_HEADERS)
    if size > options.max_headers_bytes:
        stats.header_list_size_too_large += 1
        raise Overflow(codes.HEADERS_TOO_LARGE)


def request_head(fields: Sequence[Any], options: Http2Options, stats: Http2Stats) -> RequestHead:
    """The head of a header list (pairs) that is well-formed (RFC 9113 section 8.3). Raises `Overflow`."""
    kept: Fields = []
    index: dict[bytes, bytes] = {}
    size = 0
    for field in fields:
        # What is kept is the very field that came, which may say that nobody is to index it (RFC 7541 section 7.1.3).
        # Compiled, one that is known to be a pair would be taken apart and put together anew.
        pair: Field = field
        name, value = pair
        size += len(name) + len(value)
        if name in _TAKEN_OUT:
            index[name] = value
        else:
            kept.append(field)
    _check(len(fields), size, options, stats)
    method = index.get(b":method", b"")
    scheme = index.get(b":scheme", b"")
    if scheme not in _SCHEMES:
        scheme = scheme.lower()
    authority = index.get(b":authority")
    if authority is None:
        authority = index.get(b"host")
    if b"cookie" in index:
        kept.append((b"cookie", b"; ".join([value for name, value in fields if name == b"cookie"])))
    head = RequestHead(METHODS.get(method, method), scheme, authority, index.get(b":path", b""), _HTTP2, kept)
    if options.underscores is not UnderscoreAction.ALLOW:
        _treat_underscores(head, options.underscores, stats)
    protocol = index.get(b":protocol")
    if protocol:
        head.method = b"GET"
        head.upgrade = protocol.lower()
        head.fields += ((b"upgrade", protocol), (b"connection", _UPGRADE))
    return head


def _treat_underscores(head: RequestHead, action: UnderscoreAction, stats: Http2Stats) -> None:
    fields = [field for field in head.fields if b"_" not in field[0]]
    dropped = len(head.fields) - len(fields)
    if not dropped:
        return
    if action is UnderscoreAction.REJECT_REQUEST:
        stats.requests_rejected_with_underscores_in_headers += 1
        raise Overflow(codes.UNEXPECTED_UNDERSCORE)
    stats.dropped_headers_with_underscores += dropped
    head.fields = fields


def request_fields(head: RequestHead) -> Fields:
    """The header list of a request."""
    authority = head.authority or b""
    if head.upgrade is not None:
        fields = [
            (b":method", b"CONNECT"), (b":scheme", head.scheme or b"http"), (b":authority", authority),
            (b":path", head.path), (b":protocol", head.get(_UPGRADE) or head.upgrade),
        ]  # fmt: skip
        fields += [f for f in head.fields if f[0] not in _CONNECTION_SPECIFIC and f != (b"content-length", b"0")]
        return fields
    if head.method == b"CONNECT":
        fields = [(b":method", b"CONNECT"), (b":authority", authority)]
    else:
        fields = [
            (b":method", head.method), (b":scheme", head.scheme or b"http"), (b":authority", authority),
            (b":path", head.path),
        ]  # fmt: skip
    return fields + ordinary(head.fields)


def response_head(fields: Sequence[Field], options: Http2Options, stats: Http2Stats) -> ResponseHead:
    """The head of a well-formed header list. Raises `Overflow`."""
    check_limits(fields, options, stats)
    kept = list(fields)
    status = int(kept.pop(0)[1])
    return ResponseHead(status, kept, _HTTP2)


def upgraded_response(head: ResponseHead, protocol: bytes) -> None:
    """Make the answer to an extended CONNECT look as in HTTP/1: 101 if it was granted."""
    if 200 <= head.status < 300:
        head.status = 101
        head.fields += ((b"upgrade", protocol), (b"connection", _UPGRADE))


def response_fields(head: ResponseHead, *, upgrade: bool) -> Fields:
    """The header list of a response; `upgrade`: to an extended CONNECT."""
    status = 200 if upgrade and head.status == 101 else head.status
    return [_STATUS.get(status) or (b":status", b"%d" % status), *ordinary(head.fields)]


def ordinary(fields: Fields) -> Fields:
    """Without what means something to one HTTP/1 connection only."""
    for name, _ in fields:
        if name in _CONNECTION_SPECIFIC:
            return [field for field in fields if field[0] not in _CONNECTION_SPECIFIC]
    return fields


_STATUS: Final = {status: (b":status", b"%d" % status) for status in range(100, 600)}
