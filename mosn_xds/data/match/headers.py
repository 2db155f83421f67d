"""Header matchers (envoy.config.route.v3.HeaderMatcher) compiled to predicates over a head.

Envoy's table for a header that is missing: a match for presence says so; any other match fails, with `invert` too. With
`treat_missing_as_empty` a missing header is a present one with an empty value, for every kind of match. A repeated header
matches when one of its values does (Envoy since 1.37.1: tested one by one, never joined), and with `invert` when none
does. Names that begin with a colon, and ``host``, are the head's attributes. Of heads that keep the case of names, as those
of RPCs do, the matcher's name is looked for in its own case, and if it is not there, in any.
"""

import re
from collections.abc import Callable

from mosn_xds.data.match.head import HeadView
from mosn_xds.data.match.strings import BytesPredicate, compile_string
from mosn_xds.spec.common import HeaderMatch

HeaderPredicate = Callable[[HeadView], bool]

_INTEGER = re.compile(rb"[ \t]*[+-]?0*[0-9]{1,19}[ \t]*")
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1


def first_value(head: HeadView, name: bytes) -> bytes | None:
    """The value of a header, of a repeated one the first."""
    for key, value in head.fields:
        if key == name:
            return value
    values = head.get_all(name) if _is_pseudo(name) else None
    return values[0] if values else None


def compile_header(match: HeaderMatch) -> HeaderPredicate:
    """A predicate over a head. Raises ConfigError for a bad expression."""
    name = match.name.lower().encode()
    invert = match.invert
    if match.string is None and match.range is None:
        return _compile_presence(name, match)
    test = compile_string(match.string) if match.string is not None else _compile_range(match.range or (0, 0))
    if_missing = match.treat_missing_as_empty and test(b"") != invert
    if _is_pseudo(name):

        def pseudo_matches(head: HeadView) -> bool:
            values = head.get_all(name)
            return test(values[0]) != invert if values else if_missing

        return pseudo_matches

    given = match.name.encode()

    def matches(head: HeadView) -> bool:
        missing = True
        if head.keeps_case:
            for value in head.get_all(given):
                if test(value):
                    return not invert
                missing = False
        else:
            for key, value in head.fields:
                if key == name:
                    if test(value):
                        return not invert
                    missing = False
        return if_missing if missing else invert

    return matches


def _compile_presence(name: bytes, match: HeaderMatch) -> HeaderPredicate:
    wanted = (match.present is not False) != match.invert
    if match.treat_missing_as_empty:
        return lambda head: wanted
    if _is_pseudo(name):
        return lambda head: bool(head.get_all(name)) == wanted

    given = match.name.encode()

    def matches(head: HeadView) -> bool:
        if head.keeps_case:
            return bool(head.get_all(given)) == wanted
        for key, _ in head.fields:
            if key == name:
                return wanted
        return not wanted

    return matches


def _is_pseudo(name: bytes) -> bool:
    return name[:1] == b":" or name == b"host"


def _compile_range(bounds: tuple[int, int]) -> BytesPredicate:
    start, end = bounds

    def matches(value: bytes) -> bool:
        if _INTEGER.fullmatch(value) is None:
            return False
        number = int(value)
        return _INT64_MIN <= number <= _INT64_MAX and start <= number < end

    return matches
