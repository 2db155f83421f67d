"""Header matchers (envoy.config.route.v3.HeaderMatcher) compiled to predicates over a head.

Envoy's table for a header that is missing: a match for presence says so; any other match fails, with `invert` too. With
`treat_missing_as_empty` a missing header is a present one with an empty value, for every kind of match. A repeated header
matches when one of its values does (Envoy since 1.37.1: tested one by one, never joined), and with `invert` when none
does. Names that begin with a colon, and ``host``, are the head's attributes.
"""

import re
from collections.abc import Callable

from mosn_xds.data.match.head import HeadView
from mosn_xds.data.match.strings import BytesPredicate, compile_string
from mosn_xds.spec.common import HeaderMatch

HeaderPredicate = Callable[[HeadView], bool]

_INTEGER = re.compile(rb"[ \t]*[+-]?0*[0-9]{1,19}[ \t]*")
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1

_PSEUDO = {
    b":method": "method",
    b":path": "path",
    b":authority": "authority",
    b"host": "authority",
    b":scheme": "scheme",
}


def header_values(head: HeadView, name: bytes) -> list[bytes]:
    """All values of a header in wire order; pseudo-headers and ``host`` are looked up as attributes."""
    attribute = _PSEUDO.get(name)
    if attribute is not None:
        value: bytes = getattr(head, attribute, b"")
        return [value] if value else []
    if name == b":status":
        return [b"%d" % status] if (status := getattr(head, "status", 0)) else []
    return [value for key, value in head.fields if key == name]


def compile_header(match: HeaderMatch) -> HeaderPredicate:
    """A predicate over a head. Raises ConfigError for a bad expression."""
    name = match.name.lower().encode()
    invert = match.invert
    if match.string is None and match.range is None:
        return _compile_presence(name, match)
    test = compile_string(match.string) if match.string is not None else _compile_range(match.range or (0, 0))
    if_missing = match.treat_missing_as_empty and test(b"") != invert
    if name[:1] == b":" or name in _PSEUDO:

        def by_pseudo(head: HeadView) -> bool:
            values = header_values(head, name)
            return test(values[0]) != invert if values else if_missing

        return by_pseudo

    if invert:

        def none_of(head: HeadView) -> bool:
            missing = True
            for key, value in head.fields:
                if key == name:
                    if test(value):
                        return False
                    missing = False
            return if_missing if missing else True

        return none_of

    def any_of(head: HeadView) -> bool:
        missing = True
        for key, value in head.fields:
            if key == name:
                if test(value):
                    return True
                missing = False
        return if_missing if missing else False

    return any_of


def _compile_presence(name: bytes, match: HeaderMatch) -> HeaderPredicate:
    wanted = (match.present is not False) != match.invert
    if match.treat_missing_as_empty:
        return lambda head: wanted
    if name[:1] == b":" or name in _PSEUDO:
        return lambda head: bool(header_values(head, name)) == wanted

    def matches(head: HeadView) -> bool:
        for key, _ in head.fields:
            if key == name:
                return wanted
        return not wanted

    return matches


def _compile_range(bounds: tuple[int, int]) -> BytesPredicate:
    start, end = bounds

    def matches(value: bytes) -> bool:
        if _INTEGER.fullmatch(value) is None:
            return False
        number = int(value)
        return _INT64_MIN <= number <= _INT64_MAX and start <= number < end

    return matches
