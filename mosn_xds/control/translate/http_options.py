"""Protocol options of HTTP/1 and HTTP/2 (envoy.config.core.v3), as connection managers and clusters share them."""

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.listener import HeaderCase, Http1Settings, Http2Settings

DEFAULT_IDLE_TIMEOUT_S = 3600.0
DEFAULT_HEADERS_COUNT = 100


def take_idle_timeout(take: Take | None) -> float | None:
    """`idle_timeout` of core.HttpProtocolOptions: an hour if absent, none if 0."""
    given = None if take is None else take.duration("idle_timeout")
    if given is None:
        return DEFAULT_IDLE_TIMEOUT_S
    return given or None


def take_http1(take: Take | None, context: Context) -> Http1Settings:
    """core.Http1ProtocolOptions."""
    if take is None:
        return Http1Settings()
    absolute = take.wrapped_flag("allow_absolute_url")
    take.ignore_given(send_fully_qualified_url="request lines have a path")
    return Http1Settings(
        take.flag("accept_http_10"),
        take.text("default_host_for_http_10"),
        take.flag("enable_trailers"),
        _take_case(take.child("header_key_format"), context),
        take.flag("allow_chunked_length"),
        absolute is not False,
    )


def _take_case(take: Take | None, context: Context) -> HeaderCase:
    if take is None:
        return HeaderCase.LOWER
    if take.has("proper_case_words"):
        take.skip("proper_case_words")
        return HeaderCase.PROPER_CASE
    formatter = take.child("stateful_formatter")
    if formatter is None:
        return HeaderCase.LOWER
    name = formatter.text("name")
    found = context.extension(formatter, "typed_config", Category.HEADER_FORMATTER, name)
    if found.value is None:
        raise formatter.error(
            "typed_config", f"Didn't find a registered implementation for '{name}' with type URL: '{found.type_name}'"
        )
    case: HeaderCase = found.value
    return case


def preserve_case(take: Take, context: Context, name: str) -> HeaderCase:
    """envoy.http.stateful_header_formatters.preserve_case."""
    return HeaderCase.PRESERVE


def _first(*answers: bool | None) -> bool:
    return next((answer for answer in answers if answer is not None), False)


def take_http2(take: Take | None, stream_error: bool | None = None) -> Http2Settings:
    """core.Http2ProtocolOptions; `stream_error` is what the connection manager says about invalid messages."""
    if take is None:
        return Http2Settings(stream_error_on_invalid_message=bool(stream_error))
    defaults = Http2Settings()
    named = {number for number, name in _NAMED_SETTINGS.items() if take.has(name)}
    streams = take.wrapped_integer("max_concurrent_streams")
    stream_window = take.wrapped_integer("initial_stream_window_size")
    connection_window = take.wrapped_integer("initial_connection_window_size")
    table = take.wrapped_integer("hpack_table_size")
    old = take.flag("stream_error_on_invalid_http_messaging")
    override = take.wrapped_flag("override_stream_error_on_invalid_http_message")
    floods = {name: take.wrapped_integer(name) for name in _FLOOD_LIMITS}
    keepalive = take.child("connection_keepalive")
    jitter = None if keepalive is None else keepalive.wrapped_number("interval_jitter")
    return Http2Settings(
        max_concurrent_streams=defaults.max_concurrent_streams if streams is None else streams,
        initial_stream_window_bytes=defaults.initial_stream_window_bytes if stream_window is None else stream_window,
        initial_connection_window_bytes=(
            defaults.initial_connection_window_bytes if connection_window is None else connection_window
        ),
        hpack_table_bytes=defaults.hpack_table_bytes if table is None else table,
        allow_connect=take.flag("allow_connect"),
        custom_settings=_custom_settings(take, named),
        stream_error_on_invalid_message=_first(override, stream_error, old),
        keepalive_interval_s=None if keepalive is None else keepalive.duration("interval") or None,
        keepalive_timeout_s=None if keepalive is None else keepalive.duration("timeout"),
        keepalive_jitter=defaults.keepalive_jitter if jitter is None else jitter / 100,
        keepalive_idle_interval_s=None if keepalive is None else keepalive.duration("connection_idle_interval"),
        **{name: getattr(defaults, name) if given is None else given for name, given in floods.items()},
    )


_NAMED_SETTINGS = {1: "hpack_table_size", 3: "max_concurrent_streams", 4: "initial_stream_window_size"}
_ENABLE_PUSH, _ENABLE_CONNECT_PROTOCOL = 2, 8


def _custom_settings(take: Take, named: set[int]) -> tuple[tuple[int, int], ...]:
    """custom_settings_parameters. Raises ConfigError for what a named field says, is there for, or Envoy does not offer."""
    field = "custom_settings_parameters"
    settings: dict[int, int] = {}
    torn: list[str] = []
    for one in take.children(field):
        key, value = one.wrapped_integer("identifier") or 0, one.wrapped_integer("value") or 0
        if key == _ENABLE_PUSH and value:
            reason = "server push is not supported by Envoy and can not be enabled via a SETTINGS parameter."
            raise take.error(field, reason)
        if key == _ENABLE_CONNECT_PROTOCOL:
            reason = 'the "allow_connect" SETTINGS parameter must only be configured through the named field'
            raise take.error(field, reason)
        if settings.setdefault(key, value) != value:
            torn.append(f"{key:#04x}")
    if torn:
        names = ",".join(dict.fromkeys(torn))
        reason = f"inconsistent HTTP/2 custom SETTINGS parameter(s) detected; identifiers = {{{names}}}"
        raise take.error(field, reason)
    both = ",".join(_NAMED_SETTINGS[key] for key in settings if key in named)
    if both:
        reason = f"the {{{both}}} HTTP/2 SETTINGS parameter(s) can not be configured through both named and custom parameters"
        raise take.error(field, reason)
    return tuple(settings.items())


_FLOOD_LIMITS = (
    "max_outbound_frames",
    "max_outbound_control_frames",
    "max_consecutive_inbound_frames_with_empty_payload",
    "max_inbound_priority_frames_per_stream",
    "max_inbound_window_update_frames_per_data_frame_sent",
)
