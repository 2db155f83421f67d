"""The bridge to grpcio against a real server."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio

from mosn_xds.control.ads.transport import GrpcTarget, GrpcTransport, Stream, StreamEnded

METHOD = "/test.Service/Stream"
Start = Callable[..., Any]


def talk(target: GrpcTarget, converse: Callable[[Stream], Any], limit_s: float = 60.0) -> Any:
    async def main() -> Any:
        with trio.fail_after(limit_s):
            async with GrpcTransport(target).open(METHOD) as stream:
                return await converse(stream)

    return trio.run(main)


async def in_thread(call: Callable[..., Any], *args: Any) -> Any:
    return await trio.to_thread.run_sync(call, *args, abandon_on_cancel=True)


def client_threads() -> list[str]:
    """All but those of the fake server and trio's pool of idle ones."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if not name.startswith(("fake-pilot", "ThreadPoolExecutor", "trio", "Trio"))]


def exchange(pilot: Any) -> Callable[[Stream], Any]:
    """Say something, hear something; returns the server's end and the answer."""

    async def converse(stream: Stream) -> Any:
        stream.send(b"question")
        end = await in_thread(pilot.accept)
        assert await in_thread(end.hear) == b"question"
        end.say(b"\xff raw \x00 answer")
        return end, await stream.receive()

    return converse


def test_bytes_go_both_ways_unchanged(start_pilot: Start) -> None:
    pilot = start_pilot()
    _, answer = talk(GrpcTarget(f"127.0.0.1:{pilot.port}"), exchange(pilot))
    assert answer == b"\xff raw \x00 answer"


@pytest.mark.parametrize("form", ["unix:./run/sock", "unix:run/sock", "unix://{}/run/sock"])
def test_unix_sockets_by_relative_and_absolute_path(
    start_pilot: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    pilot = start_pilot("unix:run/sock")
    _, answer = talk(GrpcTarget(form.format(tmp_path)), exchange(pilot))
    assert answer == b"\xff raw \x00 answer"


def test_unix_path_that_is_too_long_is_an_error_with_the_path() -> None:
    with pytest.raises(StreamEnded, match="longer than 107 bytes: /" + "x" * 120):
        talk(GrpcTarget("unix:///" + "x" * 120), lambda stream: stream.receive())


def test_token_and_metadata_go_along_and_the_token_is_read_at_each_connect(start_pilot: Start, tmp_path: Path) -> None:
    pilot = start_pilot()
    token = tmp_path / "token"
    target = GrpcTarget(
        f"127.0.0.1:{pilot.port}", token_path=str(token), initial_metadata=(("clusterid", "Kubernetes"),)
    )
    for content in ("first", "second"):
        token.write_text(content + "\n")
        end, _ = talk(target, exchange(pilot))
        assert end.metadata["authorization"] == f"Bearer {content}"
        assert end.metadata["clusterid"] == "Kubernetes"


def test_token_file_that_cannot_be_read_is_an_error_with_its_path(start_pilot: Start, tmp_path: Path) -> None:
    target = GrpcTarget("127.0.0.1:1", token_path=str(tmp_path / "none"))
    with pytest.raises(StreamEnded, match=r"token file .*/none: No such file"):
        talk(target, lambda stream: stream.receive())
    (tmp_path / "none").write_text("")
    with pytest.raises(StreamEnded, match="is empty"):
        talk(target, lambda stream: stream.receive())


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for pilot.test, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=pilot.test", "-addext", "subjectAltName=DNS:pilot.test"],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_tls_trusts_the_root_file_and_checks_the_server_name(start_pilot: Start, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    pilot = start_pilot(credentials=credentials)
    address = f"127.0.0.1:{pilot.port}"
    good = GrpcTarget(address, tls=True, tls_root_path=str(certificate), server_name="pilot.test")
    _, answer = talk(good, exchange(pilot))
    assert answer == b"\xff raw \x00 answer"
    for bad in (
        GrpcTarget(address, tls=True, server_name="pilot.test"),
        GrpcTarget(address, tls=True, tls_root_path=str(certificate), server_name="other.test"),
    ):
        with pytest.raises(StreamEnded) as caught:
            talk(bad, lambda stream: stream.receive())
        assert caught.value.code == "UNAVAILABLE"


@pytest.mark.parametrize("content", ["", "not a certificate"])
def test_root_file_without_a_certificate_never_means_other_roots(tmp_path: Path, content: str) -> None:
    root = tmp_path / "root.pem"
    root.write_text(content)
    with pytest.raises(StreamEnded, match="holds no PEM block"):
        talk(GrpcTarget("127.0.0.1:1", tls=True, tls_root_path=str(root)), lambda stream: stream.receive())


def test_nobody_listening_shows_at_the_first_receive(closed_port: int) -> None:
    with pytest.raises(StreamEnded) as caught:
        talk(GrpcTarget(f"127.0.0.1:{closed_port}"), lambda stream: stream.receive())
    assert caught.value.code == "UNAVAILABLE"


def test_half_close_is_an_end_like_any_other(start_pilot: Start) -> None:
    pilot = start_pilot()

    async def converse(stream: Stream) -> None:
        end = await in_thread(pilot.accept)
        end.end()
        await stream.receive()

    with pytest.raises(StreamEnded) as caught:
        talk(GrpcTarget(f"127.0.0.1:{pilot.port}"), converse)
    assert caught.value.code == "OK"


def test_a_push_of_twenty_megabytes_arrives(start_pilot: Start) -> None:
    pilot = start_pilot()

    async def converse(stream: Stream) -> bytes:
        end = await in_thread(pilot.accept)
        end.say(bytes(20_000_000))
        return await stream.receive()

    assert len(talk(GrpcTarget(f"127.0.0.1:{pilot.port}"), converse)) == 20_000_000


def test_a_slow_reader_holds_the_server_back(start_pilot: Start) -> None:
    pilot = start_pilot()
    count, size = 40, 1_000_000

    async def converse(stream: Stream) -> int:
        end = await in_thread(pilot.accept)
        for _ in range(count):
            end.say(bytes(size))
        await stream.receive()
        settled, before = 0, -1
        while settled < 10:  # until the server has made no progress for a while
            settled, before = (settled + 1 if end.written == before else 0), end.written
            await trio.sleep(0.02)
        held = end.written
        for _ in range(count - 1):
            assert len(await stream.receive()) == size
        return int(held)

    assert talk(GrpcTarget(f"127.0.0.1:{pilot.port}"), converse) < count


def test_reconnects_leave_no_thread_behind(start_pilot: Start, closed_port: int) -> None:
    pilot = start_pilot()

    async def main() -> None:
        before = len(client_threads())
        for round_ in range(20):
            port = closed_port if round_ % 4 == 3 else pilot.port
            async with GrpcTransport(GrpcTarget(f"127.0.0.1:{port}")).open(METHOD) as stream:
                stream.send(b"x")
                if port == closed_port:
                    with pytest.raises(StreamEnded):
                        await stream.receive()
                elif round_ % 4 == 0:  # the server ends it
                    (await in_thread(pilot.accept)).end()
                    with pytest.raises(StreamEnded):
                        await stream.receive()
                elif round_ % 4 == 1:  # left while a message waits to be taken
                    (await in_thread(pilot.accept)).say(b"unread")
                else:  # left while nothing happens
                    await in_thread(pilot.accept)
        for _ in range(500):
            if len(client_threads()) <= before:
                break
            await trio.sleep(0.01)
        assert len(client_threads()) <= before, client_threads()

    trio.run(main)


def test_a_process_with_an_open_stream_exits_at_once(start_pilot: Start) -> None:
    pilot = start_pilot()
    script = f"""
import trio
from mosn_xds.control.ads.transport import GrpcTarget, GrpcTransport
async def main():
    stream = GrpcTransport(GrpcTarget("127.0.0.1:{pilot.port}")).open("{METHOD}")
    await (await stream.__aenter__()).receive()
    raise SystemExit(7)
trio.run(main)
"""
    child = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"GRPC_VERBOSITY": "NONE"})
    try:
        pilot.accept(30).say(b"now")
        assert child.wait(timeout=10) == 7
    finally:
        child.kill()


def test_server_that_never_shakes_hands_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = GrpcTarget(f"127.0.0.1:{server.getsockname()[1]}", connect_timeout_s=0.3)
        with pytest.raises(StreamEnded) as caught:
            talk(target, lambda stream: stream.receive(), limit_s=30)
        assert caught.value.code == "UNAVAILABLE"


def test_frozen_server_is_noticed_by_keepalive(start_pilot: Start) -> None:
    pilot = start_pilot()

    async def main() -> None:
        frozen = False

        async def forward(source: trio.SocketStream, sink: trio.SocketStream) -> None:
            async for chunk in source:
                if not frozen:
                    await sink.send_all(chunk)

        async def relay(client: trio.SocketStream) -> None:
            server = await trio.open_tcp_stream("127.0.0.1", pilot.port)
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(forward, client, server)
                nursery.start_soon(forward, server, client)

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(trio.serve_tcp, relay, 0)
                port = listeners[0].socket.getsockname()[1]
                target = GrpcTarget(f"127.0.0.1:{port}", keepalive_time_s=1.0, keepalive_timeout_s=0.3)
                async with GrpcTransport(target).open(METHOD) as stream:
                    await exchange(pilot)(stream)
                    frozen = True
                    with pytest.raises(StreamEnded, match=r"UNAVAILABLE.*ping timeout"):
                        await stream.receive()
                nursery.cancel_scope.cancel()

    trio.run(main)
