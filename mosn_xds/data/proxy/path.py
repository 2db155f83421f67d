"""Request paths made canonical before anything is matched against them.

Three treatments in Envoy's order: escaped slashes, `normalize_path`, `merge_slashes`; each concerns the part before the
query only. Normalisation is the Chromium URL canonicaliser's treatment of paths, which Envoy embeds: dot segments are
resolved (``%2e`` is a dot; ``/..;x`` is ``/..``), a backslash is a slash, escapes of unreserved characters are decoded, the
few printable characters that a path must not hold are escaped, every other escape stays as it is in its own case, and
``%00`` is refused. A path that is canonical already, nearly every one, is recognised by its characters.
"""

import re
from typing import Final

from mosn_xds.data.codec.grpc import is_grpc
from mosn_xds.data.codec.head import RequestHead
from mosn_xds.data.filters.api import Reply
from mosn_xds.spec.listener import EscapedSlashes, HttpConnectionManager

_NORMAL: Final = b"!$&'()*+,-./0123456789:;=@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~"
"""What a canonical path consists of, escapes aside."""
_NORMAL_WITH_QUERY: Final = _NORMAL + b"?"
_TOKEN: Final = re.compile(rb"%(?:[0-9A-Fa-f]{2})?|[^!$&'()*+,\-./0-9:;=@A-Z\[\]_a-z~]")
_DOT_PARAMETERS: Final = re.compile(rb"/(\.\.?);[^/]*")
_LONE_PERCENT: Final = b"\xff"
_NESTED_ESCAPE: Final = re.compile(rb"\xff(?=[0-9A-Fa-f]{2})")
_ESCAPED_SLASH: Final = re.compile(rb"%(?:2[Ff]|5[Cc])")
_SLASHES: Final = re.compile(rb"//+")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def split_query(path: bytes) -> tuple[bytes, bytes]:
    """The path, and the query with its question mark (empty when there is none)."""
    mark = path.find(b"?")
    return (path, b"") if mark < 0 else (path[:mark], path[mark:])


def normalize_path(path: bytes) -> bytes | None:
    """The canonical form of a path without query; None for one that holds a NUL."""
    if _is_normal(path) and path[:1] == b"/":
        return path
    if b";" in path:
        path = _DOT_PARAMETERS.sub(rb"/\1", path)
    if b"\0" in path or b"%00" in path:
        return None
    text = _TOKEN.sub(_canonical_token, path)
    if _LONE_PERCENT in text:
        # What was decoded behind it must not make an escape of a percent sign that was none.
        text = _NESTED_ESCAPE.sub(b"%25", text).replace(_LONE_PERCENT, b"%")
    segments: list[bytes] = []
    parts = text.split(b"/")
    if parts[0] == b"":
        del parts[0]
    last = len(parts) - 1
    for position, part in enumerate(parts):
        if part not in (b".", b".."):
            segments.append(part)
            continue
        if part == b".." and segments:
            segments.pop()
        if position == last:
            segments.append(b"")
    return b"/" + b"/".join(segments)


def _is_normal(path: bytes) -> bool:
    # 0.15 us; a regular expression's search takes 0.4.
    return not path.translate(None, _NORMAL) and path.find(b"/.") < 0


def _canonical_token(match: re.Match[bytes]) -> bytes:
    token = match.group()
    if len(token) == 3:
        value = int(token[1:], 16)
        return bytes((value,)) if value in _UNRESERVED else token
    if token == b"%":
        return _LONE_PERCENT
    return b"/" if token == b"\\" else b"%%%02X" % token[0]


def merge_slashes(path: bytes) -> bytes:
    """Runs of slashes in a path without query become one; of a path of slashes alone Envoy leaves two."""
    if b"//" not in path:
        return path
    return _SLASHES.sub(b"/", path) if path.strip(b"/") else b"//"


def unescape_slashes(path: bytes) -> bytes:
    """``%2F`` and ``%5C`` of a path without query become ``/`` and ``\\``."""
    if b"%" not in path:
        return path
    return _ESCAPED_SLASH.sub(lambda match: b"/" if match.group()[1:2] == b"2" else b"\\", path)


_REJECTED: Final = Reply(400, details="path_normalization_failed")


class PathPolicy:
    """A connection manager's path options, as one call per request."""

    __slots__ = ("_escaped_slashes", "_merge", "_normalize")

    def __init__(self, spec: HttpConnectionManager) -> None:
        self._escaped_slashes = spec.escaped_slashes
        self._normalize = spec.normalize_path
        self._merge = spec.merge_slashes

    def __repr__(self) -> str:
        return f"<PathPolicy {self._escaped_slashes.name} normalize={self._normalize} merge={self._merge}>"

    def apply(self, head: RequestHead) -> Reply | None:
        """Make `head.path` canonical. Returns the answer for a request that goes no further: 400, or 307 to the new path."""
        path = head.path
        if (
            not path.translate(None, _NORMAL_WITH_QUERY)
            and path.find(b"/.") < 0
            and not (self._merge and b"//" in path)
        ):
            return None
        if b"#" in path:
            return _REJECTED
        bare, query = split_query(path)
        redirect = False
        if self._escaped_slashes is not EscapedSlashes.KEEP_UNCHANGED:
            unescaped = unescape_slashes(bare)
            if unescaped != bare:
                if self._escaped_slashes is EscapedSlashes.REJECT_REQUEST:
                    head.path = unescaped + query
                    return _REJECTED
                redirect = self._escaped_slashes is EscapedSlashes.UNESCAPE_AND_REDIRECT
                bare = unescaped
        if self._normalize:
            normal = normalize_path(bare)
            if normal is None:
                return _REJECTED
            bare = normal
        if self._merge:
            bare = merge_slashes(bare)
        path = bare + query
        if path != head.path:
            head.path = path
        if not redirect:
            return None
        if is_grpc(head.get(b"content-type")):
            return _REJECTED
        return Reply(307, details="path_normalization_failed", fields=[(b"location", path)])
