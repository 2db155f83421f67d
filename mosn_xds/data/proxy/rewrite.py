"""What a route does to path and host of the request that it forwards (Envoy's finalizeRequestHeaders, after header operations).

A rewritten path keeps its query; the path before goes to ``x-envoy-original-path`` unless Envoy's own headers are
suppressed. A prefix rewrite puts its text in the place of what the route matched: the prefix, or the whole path for exact
and regular expression matches.
"""

from collections.abc import Callable

from mosn_xds.data.codec.head import RequestHead
from mosn_xds.data.match.headers import first_value
from mosn_xds.data.match.strings import Substitution
from mosn_xds.data.proxy.path import split_query
from mosn_xds.spec.common import RegexRewrite
from mosn_xds.spec.route import PathKind, RouteAction, RouteMatch

ORIGINAL_PATH = b"x-envoy-original-path"
ORIGINAL_HOST = b"x-envoy-original-host"
_FORWARDED_HOST = b"x-forwarded-host"


def compile_path_rewrite(
    match: RouteMatch, prefix_rewrite: str, regex_rewrite: RegexRewrite | None
) -> Callable[[bytes], bytes] | None:
    """A function from the old path to the new one, queries included (empty: leave it); None when nothing is rewritten.

    Raises ConfigError for a bad expression.
    """
    if prefix_rewrite:
        text = prefix_rewrite.encode()
        if match.path_kind in (PathKind.PREFIX, PathKind.SEPARATED_PREFIX, PathKind.EXACT):
            matched = len(match.path.encode())
            return lambda path: text + path[matched:]
        return lambda path: text + split_query(path)[1]
    if regex_rewrite is None:
        return None
    substitution = Substitution(regex_rewrite)

    def rewrite(path: bytes) -> bytes:
        bare, query = split_query(path)
        new = substitution.apply(bare)
        return new + query if new else b""

    return rewrite


def rewrite_path(head: RequestHead, rewrite: Callable[[bytes], bytes], *, keep_original: bool) -> None:
    """Rewrite the path of `head`; with `keep_original` the old one is noted in its header.

    A regex rewrite that leaves nothing leaves the path as it was.
    """
    old = head.path
    new = rewrite(old)
    if not new:
        return
    if keep_original:
        head.set(ORIGINAL_PATH, old)
    head.path = new


def rewrite_host(head: RequestHead, host: bytes, *, append_forwarded: bool, keep_original: bool) -> None:
    """Put `host` in the place of the authority.

    With `append_forwarded` the old one is appended to x-forwarded-host, unless it is the last entry there already; with
    `keep_original` it is noted in x-envoy-original-host.
    """
    old = head.authority or b""
    if append_forwarded and old:
        before = head.get(_FORWARDED_HOST)
        if not before:
            head.set(_FORWARDED_HOST, old)
        elif before.rpartition(b",")[2] != old:
            head.set(_FORWARDED_HOST, before + b"," + old)
    if keep_original:
        head.set(ORIGINAL_HOST, old)
    head.authority = host


class HostRewrite:
    """The host rewrite of a RouteAction that depends on the request only: a literal, a header, or the path.

    ``auto_host_rewrite`` is not here: its host is known only after load balancing; the router calls `rewrite_host`.
    """

    __slots__ = ("_append_forwarded", "_header", "_literal", "_path_regex")

    def __init__(self, action: RouteAction) -> None:
        self._literal = action.host_rewrite.encode()
        self._header = action.host_rewrite_header.lower().encode()
        self._path_regex = Substitution(action.host_rewrite_path_regex) if action.host_rewrite_path_regex else None
        self._append_forwarded = action.append_x_forwarded_host

    @classmethod
    def of(cls, action: RouteAction) -> "HostRewrite | None":
        """None when the action names no such rewrite. Raises ConfigError for a bad expression."""
        if action.host_rewrite or action.host_rewrite_header or action.host_rewrite_path_regex is not None:
            return cls(action)
        return None

    @classmethod
    def literal(cls, host: str, action: RouteAction) -> "HostRewrite":
        """A weighted cluster's own `host_rewrite_literal`, which goes before its route's rewrite."""
        rewrite = cls(action)
        rewrite._literal = host.encode()
        return rewrite

    def __repr__(self) -> str:
        return f"<HostRewrite {self._literal or self._header or self._path_regex!r}>"

    def apply(self, head: RequestHead, *, keep_original: bool) -> None:
        """Rewrite the authority of `head`, before its path is rewritten."""
        if self._literal:
            host = self._literal
        elif self._header:
            value = first_value(head, self._header)
            if not value:
                return
            host = value
        elif self._path_regex is not None:
            host = self._path_regex.apply(split_query(head.path)[0])
        else:
            return
        rewrite_host(head, host, append_forwarded=self._append_forwarded, keep_original=keep_original)
