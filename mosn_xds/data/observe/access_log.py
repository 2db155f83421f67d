"""An access log: a filter, a format and a file. One call per stream that has ended."""

from collections.abc import Callable

from mosn_xds.data.observe.formatter import Formatter, JsonFormatter
from mosn_xds.data.observe.getters import FormatEnvironment
from mosn_xds.data.observe.info import StreamInfo
from mosn_xds.data.observe.log_file import LogFile, LogFiles
from mosn_xds.data.observe.log_filter import LogPredicate, compile_log_filter
from mosn_xds.spec.access_log import AccessLog as AccessLogSpec
from mosn_xds.spec.access_log import JsonFormat


class AccessLog:
    """One access log of a listener, connection manager or TCP proxy.

    Raises ConfigError for a format or filter that cannot be used, and for a file that cannot be opened.
    """

    __slots__ = ("_file", "_files", "_filter", "_line")

    def __init__(self, spec: AccessLogSpec, environment: FormatEnvironment, files: LogFiles) -> None:
        self._filter: LogPredicate | None = None
        if spec.filter is not None:
            self._filter = compile_log_filter(spec.filter, environment)
        self._line = _compile_line(spec, environment)
        self._files = files
        self._file: LogFile = files.open(spec.path)

    def __repr__(self) -> str:
        return f"<AccessLog {self._file.path}>"

    def log(self, info: StreamInfo) -> None:
        """Write the stream's line, unless the filter is against it. Costs no input or output here."""
        if self._filter is None or self._filter(info):
            self._file.write(self._line(info))

    def close(self) -> None:
        """Nothing is logged any more; call it once."""
        self._files.release(self._file)


def _compile_line(spec: AccessLogSpec, environment: FormatEnvironment) -> Callable[[StreamInfo], bytes]:
    if isinstance(spec.format, JsonFormat):
        render_json = JsonFormatter(spec.format, environment).render
        return lambda info: render_json(info) + b"\n"
    return Formatter(spec.format.format, environment, omit_empty=spec.format.omit_empty_values).render
