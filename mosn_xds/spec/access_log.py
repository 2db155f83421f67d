"""Access logs: where lines go, what they look like, which requests get one (envoy.config.accesslog.v3)."""

from enum import IntEnum

from mosn_xds.spec.common import Format, Fraction, HeaderMatch, Spec


class TextFormat(Spec, frozen=True, tag="text"):
    format: Format
    omit_empty_values: bool = False


class JsonText(Spec, frozen=True, tag="s"):
    """A JSON value from a format: typed when the format is one lone operator, else a string."""

    format: Format


class JsonObject(Spec, frozen=True, tag="o"):
    """Keys are sorted, as Envoy prints them."""

    fields: tuple[tuple[str, "JsonNode"], ...]


class JsonList(Spec, frozen=True, tag="l"):
    items: tuple["JsonNode", ...]


class JsonConstant(Spec, frozen=True, tag="c"):
    """A number, bool or null given as such."""

    value: float | bool | None


JsonNode = JsonText | JsonObject | JsonList | JsonConstant


class JsonFormat(Spec, frozen=True, tag="json"):
    root: JsonObject
    omit_empty_values: bool = False


class Comparison(IntEnum):
    EQ = 0
    GE = 1
    LE = 2
    NE = 3


class LogFilter(Spec, frozen=True):
    """Which requests are logged; `kind` says which field holds.

    ``status`` / ``duration`` (`op`, `value`; duration in milliseconds) · ``not_health_check`` · ``traceable`` · ``runtime``
    (`fraction`) · ``and`` / ``or`` (`children`) · ``header`` · ``response_flag`` (`flags`, empty: any flag) ·
    ``grpc_status`` (`values`, `exclude`) · ``never``.
    """

    kind: str
    op: Comparison = Comparison.EQ
    value: int = 0
    fraction: Fraction | None = None
    children: tuple["LogFilter", ...] = ()
    header: HeaderMatch | None = None
    flags: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    exclude: bool = False


class AccessLog(Spec, frozen=True):
    """`path` is a file, ``/dev/stdout`` or ``/dev/stderr``."""

    path: str
    format: TextFormat | JsonFormat
    filter: LogFilter | None = None
