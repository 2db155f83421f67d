"""An access log from its Spec to the bytes in its file."""

from pathlib import Path

from mosn_xds.data.observe.access_log import AccessLog
from mosn_xds.data.observe.log_file import FileStats, LogFiles
from mosn_xds.spec import access_log as spec
from tests.support.heads import environment, info, parsed, request


def write_lines(path: Path, format: spec.TextFormat | spec.JsonFormat, filter: spec.LogFilter | None = None) -> bytes:
    """What is in the file after three requests: 200, 404 and 503."""
    files = LogFiles(3600.0, FileStats("filesystem."))
    log = AccessLog(spec.AccessLog(str(path), format, filter), environment(), files)
    for code in (200, 404, 503):
        log.log(info(request("/p"), response_code=code))
    log.close()
    files.close()
    return path.read_bytes()


def test_text_lines_are_as_the_format_says(tmp_path):
    line = spec.TextFormat(parsed("%RESPONSE_CODE% %REQ(:PATH)% %REQ(X)%\n"))
    assert write_lines(tmp_path / "log", line) == b"200 /p -\n404 /p -\n503 /p -\n"


def test_text_without_a_newline_gets_none(tmp_path):
    assert write_lines(tmp_path / "log", spec.TextFormat(parsed("%RESPONSE_CODE% "))) == b"200 404 503 "


def test_empty_values_can_be_left_out(tmp_path):
    line = spec.TextFormat(parsed("<%REQ(X)%>"), omit_empty_values=True)
    assert write_lines(tmp_path / "log", line) == b"<><><>"


def test_json_lines_end_with_a_newline(tmp_path):
    root = spec.JsonObject(
        (("code", spec.JsonText(parsed("%RESPONSE_CODE%"))), ("x", spec.JsonText(parsed("%REQ(X)%"))))
    )
    lines = write_lines(tmp_path / "log", spec.JsonFormat(root))
    assert lines == b'{"code":200,"x":null}\n{"code":404,"x":null}\n{"code":503,"x":null}\n'


def test_only_what_the_filter_lets_through_is_logged(tmp_path):
    errors = spec.LogFilter("status", op=spec.Comparison.GE, value=500)
    assert write_lines(tmp_path / "log", spec.TextFormat(parsed("%RESPONSE_CODE%\n")), errors) == b"503\n"
