"""Access logs as operators read them: default format, text, JSON, operators, filters, TCP."""

import json
import re
import time
from pathlib import Path

import pytest

from tests.differential.bed import FILE_LOG, Bed, Config, cluster, http_listener, listener, tcp_proxy, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.tcp_upstream import TcpUpstream
from tests.support.upstream import Upstream, drop, hang, respond

ROUTES = vhost(
    "all",
    ["*"],
    """
    - {name: rewritten, match: {prefix: /old}, route: {cluster: a, prefix_rewrite: /new}}
    - {name: short, match: {path: /short}, route: {cluster: a, timeout: 0.2s}}
    - {name: none, match: {path: /teapot}, direct_response: {status: 418, body: {inline_string: short and stout}}}
    - {name: all, match: {prefix: /}, route: {cluster: a}}
    """,
)


def log(name: str, form: Config | None = None, **more: object) -> Config:
    """A file log of its own, in NAME.txt."""
    body = {"@type": FILE_LOG, "path": f"${{log}}/{name}.txt", **({"log_format": form} if form else {})}
    return {"name": "envoy.access_loggers.file", "typed_config": body, **more}


def text(line: str, **more: object) -> Config:
    """A text format."""
    return {"text_format_source": {"inline_string": line + "\n"}, **more}


OPERATORS = {
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "original": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "authority": "%REQ(:AUTHORITY)%",
    "agent-3": "%REQ(USER-AGENT):3%",
    "missing": "%REQ(X-NOT-THERE)%",
    "mixed": "<%REQ(X-NOT-THERE)%>",
    "protocol": "%PROTOCOL%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "flags_long": "%RESPONSE_FLAGS_LONG%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "termination": "%CONNECTION_TERMINATION_DETAILS%",
    "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_cluster_raw": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_without_port": "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "upstream_remote": "%UPSTREAM_REMOTE_ADDRESS%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "local": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "local_without_port": "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "remote_without_port": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "direct_remote": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "route": "%ROUTE_NAME%",
    "from_upstream": "%RESP(X-UPSTREAM)%",
    "percent": "100%%",
    "literal": "a literal",
}

TCP_OPERATORS = (
    "%PROTOCOL%",
    "%BYTES_RECEIVED%",
    "%BYTES_SENT%",
    "%RESPONSE_FLAGS%",
    "%UPSTREAM_CLUSTER%",
    "%UPSTREAM_HOST%",
    "%DOWNSTREAM_LOCAL_ADDRESS%",
    "%REQ(:PATH)%",
    "%RESPONSE_CODE%",
)

STATUS_FILTER = {
    "status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "none"}}}
}

BED = Bed(
    listeners=[
        http_listener("default", ROUTES, access_log=[log("default")]),
        http_listener(
            "text", ROUTES, access_log=[log("text", text(" ".join(f"{k}={v}" for k, v in OPERATORS.items())))]
        ),
        http_listener(
            "json",
            ROUTES,
            access_log=[
                log(
                    "json",
                    {"json_format": OPERATORS | {"nested": {"code": "%RESPONSE_CODE%", "list": ["%REQ(:METHOD)%"]}}},
                )
            ],
        ),
        http_listener(
            "json-short",
            ROUTES,
            access_log=[
                log(
                    "json-short",
                    {"json_format": {"here": "%REQ(:PATH)%", "missing": "%REQ(X-NO)%"}, "omit_empty_values": True},
                )
            ],
        ),
        http_listener(
            "times",
            ROUTES,
            access_log=[
                log(
                    "times",
                    text(
                        "%START_TIME% %START_TIME(%s)% %START_TIME(%Y/%m/%dT%H:%M:%S%z)% %START_TIME(%s.%3f)% %START_TIME(%s.%6f)%"
                        " %DURATION% %REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%"
                        " %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"
                    ),
                )
            ],
        ),
        http_listener(
            "filtered",
            ROUTES,
            access_log=[
                log("status", text("%REQ(:PATH)%"), filter=STATUS_FILTER),
                log("flags", text("%REQ(:PATH)%"), filter={"response_flag_filter": {"flags": ["UT"]}}),
                log("any-flag", text("%REQ(:PATH)%"), filter={"response_flag_filter": {}}),
                log(
                    "header",
                    text("%REQ(:PATH)%"),
                    filter={"header_filter": {"header": {"name": "x-log", "present_match": True}}},
                ),
                log(
                    "and",
                    text("%REQ(:PATH)%"),
                    filter={
                        "and_filter": {
                            "filters": [
                                STATUS_FILTER,
                                {"header_filter": {"header": {"name": "x-log", "present_match": True}}},
                            ]
                        }
                    },
                ),
                log(
                    "or",
                    text("%REQ(:PATH)%"),
                    filter={
                        "or_filter": {
                            "filters": [
                                STATUS_FILTER,
                                {"header_filter": {"header": {"name": "x-log", "present_match": True}}},
                            ]
                        }
                    },
                ),
                log("all", text("%REQ(:PATH)%")),
            ],
        ),
        listener(
            "tcp",
            tcp_proxy(
                "tcp",
                "t",
                access_log=[
                    log(
                        "tcp",
                        text(" ".join(TCP_OPERATORS)),
                    )
                ],
            ),
        ),
        listener(
            "listener-log",
            tcp_proxy("listener-log", "t", access_log=[]),
            access_log=[log("listener", text("%DOWNSTREAM_LOCAL_ADDRESS% %RESPONSE_FLAGS% %BYTES_RECEIVED%"))],
        ),
    ],
    clusters=[cluster("a"), cluster("t")],
    upstreams={"a": Upstream, "t": TcpUpstream},
)


def lines_of(proxy: World, name: str, count: int) -> list[str]:
    """The last `count` lines of the log, once another `count` have come since the marker that `mark` wrote."""
    path: Path = proxy.folder / f"{name}.txt"
    deadline = time.monotonic() + 10
    start = proxy.marks.get(name, 0)
    while time.monotonic() < deadline:
        data = path.read_bytes()[start:] if path.exists() else b""
        lines = data.decode().splitlines()
        if len(lines) >= count and data.endswith(b"\n"):
            break
        time.sleep(0.01)
    proxy.marks[name] = start + len(data)
    return lines


@case("Access log: the default format")
def test_the_default_format(proxy: World) -> None:
    headers = {"user-agent": "me", "x-forwarded-for": "1.2.3.4", "x-request-id": "the-id"}
    proxy.get("/old/x?q=1", headers, host="shop", listener="default", logged=False)
    (line,) = lines_of(proxy, "default", 1)
    pattern = (
        r'\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "GET /old/x\?q=1 HTTP/1\.1" 200 - 0 2 \d+ \d+ "1\.2\.3\.4" "me" "the-id"'
        rf' "shop" "127\.0\.0\.1:{proxy.port("a")}"'
    )
    assert re.fullmatch(pattern, line)


@case("Access log: text format with the operators of the mesh's own formats")
@pytest.mark.parametrize("path", ["/old/x?q=1", "/plain", "/teapot"])
def test_text_operators(proxy: World, path: str) -> None:
    headers = {"user-agent": "agent", "x-forwarded-for": "1.2.3.4"}
    proxy.request("POST", path, headers, b"12345", listener="text", logged=False)
    (line,) = lines_of(proxy, "text", 1)
    proxy.note("line", line)
    assert f" path={path.replace('/old', '/new')} original={path} " in line
    assert " agent-3=age missing=- mixed=<-> " in line
    assert " percent=100% literal=a literal" in line


@case("Access log: long response flags")
def test_long_flags(proxy: World) -> None:
    proxy.upstream("a").script(hang())
    proxy.get("/short", listener="text", logged=False)
    (line,) = lines_of(proxy, "text", 1)
    assert " flags=UT flags_long=UpstreamRequestTimeout details=response_timeout " in line
    proxy.note("line", line)


@case("Access log: JSON format keeps numbers, gives null for what is missing, sorts keys")
@pytest.mark.parametrize("path", ["/old/x?q=1", "/teapot"])
def test_json_operators(proxy: World, path: str) -> None:
    proxy.request("POST", path, {"user-agent": 'quo"ted'}, b"12345", listener="json", logged=False)
    (line,) = lines_of(proxy, "json", 1)
    proxy.note("line", line)
    entry = json.loads(line)
    # A direct response does not wait for the body.
    assert (entry["code"], entry["missing"], entry["mixed"], entry["literal"]) == (
        200 if path.startswith("/old") else 418,
        None,
        "<->",
        "a literal",
    )
    assert entry["nested"] == {"code": entry["code"], "list": ["POST"]}
    assert list(entry) == sorted(entry)


@case("Access log: omit_empty_values")
def test_empty_values_are_omitted(proxy: World) -> None:
    proxy.get("/x", listener="json-short", logged=False)
    (line,) = lines_of(proxy, "json-short", 1)
    assert line == '{"here":"/x"}'


@case("Access log: times")
def test_times(proxy: World) -> None:
    proxy.upstream("a").script(respond(delay_s=0.5))
    before = time.time()
    proxy.get("/", listener="times", logged=False)
    after = time.time()
    (line,) = lines_of(proxy, "times", 1)
    start, seconds, formatted, millis, micros, *durations = line.split(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", start)
    assert re.fullmatch(r"\d{4}/\d\d/\d\dT\d\d:\d\d:\d\d\+0000", formatted)
    assert before - 0.1 < float(millis) < after - 0.4
    assert abs(float(micros) - float(millis)) < 0.001
    assert int(seconds) == int(float(millis))
    total, request, response, transmission, service = map(int, durations)
    assert 495 <= response <= total <= (after - before) * 1000 + 1
    assert 495 <= service <= total
    # Neither the request nor the answer took long: what did is what was between them.
    assert max(request, transmission) < 400


@case("Access log filters: status, flags, header, and, or")
def test_log_filters(proxy: World) -> None:
    proxy.upstream("a").script(hang(), respond(), respond(), drop())
    requests = (("/short", {}), ("/teapot", {"x-log": "1"}), ("/plain", {"x-log": "1"}), ("/plain2", {}), ("/drop", {}))
    with proxy.connect("filtered") as link:
        for path, headers in requests:
            link.request(path=path, headers=headers, logged=False)
    assert lines_of(proxy, "all", 5) == ["/short", "/teapot", "/plain", "/plain2", "/drop"]
    assert lines_of(proxy, "status", 3) == ["/short", "/teapot", "/drop"]
    assert lines_of(proxy, "flags", 1) == ["/short"]
    assert lines_of(proxy, "any-flag", 2) == ["/short", "/drop"]
    assert lines_of(proxy, "header", 2) == ["/teapot", "/plain"]
    assert lines_of(proxy, "and", 1) == ["/teapot"]
    assert lines_of(proxy, "or", 4) == ["/short", "/teapot", "/plain", "/drop"]


@case("Access log: a TCP connection, when it ends")
def test_a_tcp_line(proxy: World) -> None:
    with proxy.connect("tcp") as link:
        link.send(b"hello")
        assert link.raw.read_exactly(7) == b"t\nhello"
        assert not (proxy.folder / "tcp.txt").exists() or not (proxy.folder / "tcp.txt").read_bytes()
    (line,) = lines_of(proxy, "tcp", 1)
    port, listens = proxy.port("t"), proxy.listener_port("tcp")
    assert line == f"- 5 7 - t 127.0.0.1:{port} 127.0.0.1:{listens} - 0"


@case("Access log: the listener's own, for every connection")
def test_the_listeners_log(proxy: World) -> None:
    with proxy.connect("listener-log") as link:
        assert link.raw.read_exactly(2) == b"t\n"
    (line,) = lines_of(proxy, "listener", 1)
    proxy.note("line", line)
    assert line.startswith(f"127.0.0.1:{proxy.listener_port('listener-log')} - ")
