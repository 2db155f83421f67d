"""Access logs and their filters (envoy.config.accesslog.v3, file loggers of envoy.extensions.access_loggers)."""

import msgspec

from mosn_xds.control.translate.common import take_percent
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.formats import read_format, read_json_format, take_format_string
from mosn_xds.control.translate.matchers import take_header_match
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.access_log import AccessLog, Comparison, JsonFormat, LogFilter, TextFormat
from mosn_xds.spec.common import Fraction

DEFAULT_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'
)
NEVER = LogFilter("never")


def take_access_logs(parent: Take, context: Context, name: str = "access_log") -> tuple[AccessLog, ...]:
    """Repeated accesslog.AccessLog; loggers that are not known here are left out and reported."""
    if not parent.has(name):
        return ()
    found = []
    for take in parent.children(name):
        logger = take.text("name")
        extension = context.extension(take, "typed_config", Category.ACCESS_LOG, logger)
        if extension.value is None:
            take.left.clear()
            take.ignore("", f"no access logger of type {extension.type_name} is known")
            continue
        log: AccessLog = extension.value
        condition = take.child("filter")
        if condition is not None:
            log = msgspec.structs.replace(log, filter=take_log_filter(condition, context))
        found.append(log)
    return tuple(found)


def file_log(take: Take, context: Context, name: str) -> AccessLog:
    """envoy.access_loggers.file."""
    path = context.check_log_path(take, "path", take.text("path"))
    return AccessLog(path, _take_file_format(take, context))


def _take_file_format(take: Take, context: Context) -> TextFormat | JsonFormat:
    if take.has("format"):
        text = take.text("format")
        return TextFormat(read_format(text or DEFAULT_FORMAT, take, "format"))
    for deprecated in ("json_format", "typed_json_format"):
        struct = take.message_of(deprecated)
        if struct is not None:
            return read_json_format(struct, take, deprecated)
    given = take.child("log_format")
    if given is None:
        return TextFormat(read_format(DEFAULT_FORMAT, take, "format"))
    if given.has("content_type"):
        given.ignore("content_type", "a log has none")
    found = take_format_string(given, context)
    return found if isinstance(found, JsonFormat) else TextFormat(found)


def stdout_log(take: Take, context: Context, name: str) -> AccessLog:
    """envoy.access_loggers.stdout."""
    return AccessLog("/dev/stdout", _take_file_format(take, context))


def stderr_log(take: Take, context: Context, name: str) -> AccessLog:
    """envoy.access_loggers.stderr."""
    return AccessLog("/dev/stderr", _take_file_format(take, context))


def take_log_filter(take: Take, context: Context) -> LogFilter:
    """accesslog.AccessLogFilter. One that cannot be evaluated here lets everything through, and is reported: a line too
    many is better than a request without one."""
    for name, kind in (("status_code_filter", "status"), ("duration_filter", "duration")):
        compared = take.child(name)
        if compared is not None:
            return _take_comparison(compared, kind, context)
    for name, kind in (("not_health_check_filter", "not_health_check"), ("traceable_filter", "traceable")):
        if take.has(name):
            take.skip(name)
            return LogFilter(kind)
    for name, kind in (("and_filter", "and"), ("or_filter", "or")):
        group = take.child(name)
        if group is not None:
            children = tuple([take_log_filter(one, context) for one in group.children("filters")])
            return LogFilter(kind, children=children)
    header = take.child("header_filter")
    if header is not None:
        matcher = header.child("header")
        return LogFilter("header", header=None if matcher is None else take_header_match(matcher, context))
    flags = take.child("response_flag_filter")
    if flags is not None:
        return LogFilter("response_flag", flags=flags.texts("flags"))
    grpc = take.child("grpc_status_filter")
    if grpc is not None:
        return LogFilter("grpc_status", values=grpc.integers("statuses"), exclude=grpc.flag("exclude"))
    runtime = take.child("runtime_filter")
    if runtime is not None:
        return _take_runtime_filter(runtime, context)
    name = take.one_of("extension_filter", "metadata_filter", "log_type_filter") or ""
    take.ignore(name, "this filter lets everything through")
    return LogFilter("and")


def _take_comparison(take: Take, kind: str, context: Context) -> LogFilter:
    comparison = take.child("comparison")
    if comparison is None:
        return LogFilter(kind)
    op = comparison.enum("op", Comparison)
    value = comparison.child("value")
    if value is None:
        return LogFilter(kind, op)
    override = context.options.runtime.get(value.text("runtime_key"))
    default = value.integer("default_value")
    return LogFilter(kind, op, override if isinstance(override, int) else default)


def _take_runtime_filter(take: Take, context: Context) -> LogFilter:
    sampled = take_percent(take.child("percent_sampled")) or Fraction(0)
    override = context.options.runtime.get(take.text("runtime_key"))
    if isinstance(override, int):
        sampled = Fraction(override)
    if take.has("use_independent_randomness"):
        take.ignore("use_independent_randomness", "chance is always independent of the request id")
    return LogFilter("runtime", fraction=sampled)
