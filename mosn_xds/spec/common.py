"""The small values that many Specs share: addresses, matchers, header operations.

A Spec is a frozen, protobuf-free description of one thing, made by the control half and read by the data half. Durations
are float seconds, sizes are bytes, text is `str` (the data half turns what it compares with the wire into `bytes` when it
builds), ``None`` means "not configured", defaults are Envoy's.
"""

from enum import IntEnum

import msgspec


class Spec(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Base of all Specs: frozen, outside the cyclic collector, positional on the wire of the feed (append fields only)."""


class Address(Spec, frozen=True):
    """Where to bind or connect: `host` is a literal IP, or a unix path (``/path``, ``./path``, or ``@name`` for an
    abstract one)."""

    host: str
    port: int = 0

    @property
    def is_pipe(self) -> bool:
        return self.host[:1] in ("/", "@", ".")

    def __str__(self) -> str:
        if self.is_pipe:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Fraction(Spec, frozen=True):
    """A share of requests: `numerator` out of `denominator` (envoy.type.v3.FractionalPercent)."""

    numerator: int
    denominator: int = 100


class StringMatchKind(IntEnum):
    EXACT = 0
    PREFIX = 1
    SUFFIX = 2
    REGEX = 3
    """RE2, the whole value must match."""
    CONTAINS = 4


class StringMatch(Spec, frozen=True):
    """envoy.type.matcher.v3.StringMatcher; `ignore_case` has no meaning for REGEX."""

    kind: StringMatchKind
    value: str
    ignore_case: bool = False


class HeaderMatch(Spec, frozen=True):
    """envoy.config.route.v3.HeaderMatcher. At most one of `string`, `range`, `present`; none means "is
    present". `name` is in the case in which it was given, for properties of RPCs; of HTTP's headers it means any."""

    name: str
    string: StringMatch | None = None
    range: tuple[int, int] | None = None
    present: bool | None = None
    invert: bool = False
    treat_missing_as_empty: bool = False


class QueryMatch(Spec, frozen=True):
    """envoy.config.route.v3.QueryParameterMatcher; neither set means "is present"."""

    name: str
    string: StringMatch | None = None
    present: bool | None = None


class CidrRange(Spec, frozen=True):
    """A literal IP prefix."""

    prefix: str
    length: int


class AppendAction(IntEnum):
    """envoy.config.core.v3.HeaderValueOption.HeaderAppendAction, same numbers."""

    APPEND_IF_EXISTS_OR_ADD = 0
    ADD_IF_ABSENT = 1
    OVERWRITE_IF_EXISTS_OR_ADD = 2
    OVERWRITE_IF_EXISTS = 3


class FormatOperator(Spec, frozen=True, tag="op"):
    """One ``%NAME(arg):LENGTH%``; `arg` is None without parentheses, `max_length` None without ``:LENGTH``."""

    name: str
    arg: str | None = None
    max_length: int | None = None


class FormatText(Spec, frozen=True, tag="text"):
    """Literal text between operators."""

    text: str


Format = tuple[FormatText | FormatOperator, ...]
"""A parsed substitution format string; see `mosn_xds.spec.format.parse_format`."""


class HeaderValue(Spec, frozen=True):
    """One header to add: `value` is a parsed format."""

    name: str
    value: Format
    action: AppendAction = AppendAction.APPEND_IF_EXISTS_OR_ADD
    keep_empty: bool = False


class HeaderOps(Spec, frozen=True):
    """request_headers_to_add / _remove and response_headers_to_add / _remove of one level (cluster weight, route, ...)."""

    request_add: tuple[HeaderValue, ...] = ()
    request_remove: tuple[str, ...] = ()
    response_add: tuple[HeaderValue, ...] = ()
    response_remove: tuple[str, ...] = ()


class RegexRewrite(Spec, frozen=True):
    """envoy.type.matcher.v3.RegexMatchAndSubstitute: RE2 `pattern`, `substitution` with ``\\0`` to ``\\9``."""

    pattern: str
    substitution: str


class SocketOption(Spec, frozen=True):
    """A raw socket option: setsockopt(level, name, value)."""

    level: int
    name: int
    value: int | bytes


class TcpKeepalive(Spec, frozen=True):
    """None leaves the kernel's value."""

    probes: int | None = None
    time_s: int | None = None
    interval_s: int | None = None
