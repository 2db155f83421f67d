"""The peers of a bench, each pinned to the load's core: nginx for HTTP, a small Python server for TCP, wrk or our own load.

Everything runs on loopback and ends with the bench: peers are started in sessions of their own and killed by id.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.authority import Issued

GRPC_MESSAGE = b"\0\0\0\0\x40" + b"m" * 64
_NGINX_HTTP2 = """\
daemon off;
worker_processes 1;
pid {folder}/nginx-http2.pid;
error_log {folder}/nginx-http2.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/bodies;
  proxy_temp_path {folder}/proxied;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  http2_max_concurrent_streams 1024;
  open_file_cache max=10;
  server {{
    listen 127.0.0.1:{port} {tls} http2;
    {certificates}
    root {folder};
    default_type application/grpc;
    location / {{
      rewrite ^ /answer break;
      error_page 405 =200 /answer;
      add_trailer grpc-status 0;
    }}
  }}
}}
"""
_NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port} reuseport; location / {{ default_type text/plain; return 200 "{body}"; }} }}
}}
"""

_REPORT = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\\n{"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "errors": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What one run of load did. `units` are requests, exchanges or bytes; latencies are None for bulk."""

    units: int
    seconds: float
    p50_ms: float | None
    p99_ms: float | None
    errors: int


def pinned(core: int | None) -> list[str]:
    """The words in front of a command that keep it on one core."""
    return [] if core is None else ["taskset", "-c", str(core)]


@contextlib.contextmanager
def running(command: Sequence[str], port: int) -> Iterator[None]:
    """A server process, from when its port answers to the end of the block."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"{command[0]} does not answer on port {port}") from None
                time.sleep(0.05)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def nginx(folder: Path, port: int, core: int | None) -> Iterator[None]:
    """nginx with one worker that answers every request with a body of 1 KiB. Raises RuntimeError when it is missing."""
    if shutil.which("nginx") is None:
        raise RuntimeError("nginx is not installed (Debian: apt-get install nginx-light)")
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, body="x" * 1024))
    command = [*pinned(core), "nginx", "-c", str(config), "-p", str(folder), "-e", str(folder / "start.log")]
    with running(command, port):
        yield


@contextlib.contextmanager
def nginx_http2(folder: Path, port: int, core: int | None, tls: tuple[Issued, str] | None = None) -> Iterator[None]:
    """nginx with HTTP/2 that answers every request as a gRPC server its unary call: a message of 64 bytes, ``grpc-status`` in
    the trailers. By prior knowledge, or over mutual TLS with a certificate of its own and the root that clients must have.
    Raises RuntimeError when it is missing."""
    if shutil.which("nginx") is None:
        raise RuntimeError("nginx is not installed (Debian: apt-get install nginx-light)")
    (folder / "answer").write_bytes(GRPC_MESSAGE)
    config = folder / "nginx-http2.conf"
    certificates = ""
    if tls is not None:
        issued, root = tls
        chain, key = issued.write(folder, "upstream")
        (folder / "root.pem").write_text(root)
        certificates = (
            f"ssl_certificate {chain}; ssl_certificate_key {key}; "
            f"ssl_verify_client on; ssl_client_certificate {folder}/root.pem;"
        )
    config.write_text(
        _NGINX_HTTP2.format(folder=folder, port=port, tls="ssl" if certificates else "", certificates=certificates)
    )
    command = [*pinned(core), "nginx", "-c", str(config), "-p", str(folder), "-e", str(folder / "start.log")]
    with running(command, port):
        yield


@contextlib.contextmanager
def tcp_server(mode: str, port: int, core: int | None) -> Iterator[None]:
    """A TCP server: `echo`, `source` (sends without end) or `sink` (reads without end)."""
    with running([*pinned(core), sys.executable, "-m", "bench.tcp_server", mode, str(port)], port):
        yield


@contextlib.contextmanager
def rpc_server(port: int, core: int | None) -> Iterator[None]:
    """A server of Bolt and Dubbo that answers every call with content of 1 KiB."""
    with running([*pinned(core), sys.executable, "-m", "bench.rpc_peer", "serve", str(port)], port):
        yield


def http_load(
    folder: Path,
    port: int,
    host: str,
    path: str,
    connections: int,
    seconds: float,
    core: int | None,
    scheme: str = "http",
) -> Load:
    """Keep-alive GETs as fast as they go, by wrk, or for plaintext by our own generator where wrk is missing."""
    if shutil.which("wrk") is None and scheme == "http":
        options = ["http", str(port), str(connections), str(seconds), "--host", host, "--path", path]
        return _generator(options, core)
    script = folder / "report.lua"
    script.write_text(_REPORT)
    command = [
        *pinned(core),
        *("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "5s"),
        *("-s", str(script), "-H", f"Host: {host}", f"{scheme}://127.0.0.1:{port}{path}"),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30).stdout
    found = json.loads(output.splitlines()[-1])
    return Load(found["requests"], found["seconds"], found["p50_ms"], found["p99_ms"], found["errors"])


def http2_load(
    port: int, host: str, path: str, connections: int, streams: int, seconds: float, core: int | None
) -> Load:
    """GETs over HTTP/2 with prior knowledge, `streams` at once on each connection. Raises RuntimeError without h2load."""
    url = f"http://127.0.0.1:{port}{path}"
    return _h2load(["-H", f":authority: {host}"], url, connections, streams, seconds, core)


def grpc_load(folder: Path, port: int, connections: int, streams: int, seconds: float, core: int | None) -> Load:
    """Unary gRPC calls, `streams` at once on each connection. Raises RuntimeError without h2load."""
    message = folder / "message"
    message.write_bytes(GRPC_MESSAGE)
    return _h2load(
        [*("-d", str(message)), *("-H", "content-type: application/grpc"), *("-H", "te: trailers")],
        f"http://127.0.0.1:{port}/bench.Echo/Unary", connections, streams, seconds, core,
    )  # fmt: skip


def _h2load(options: Sequence[str], url: str, connections: int, streams: int, seconds: float, core: int | None) -> Load:
    if shutil.which("h2load") is None:
        raise RuntimeError("h2load is not installed (Debian: apt-get install nghttp2-client)")
    duration = ["-D", str(max(1, round(seconds)))]
    command = [*pinned(core), "h2load", "-t1", f"-c{connections}", f"-m{streams}", *duration, *options, url]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30).stdout
    done, failed, errored = (int(_found(rf"(\d+) {word}", output)) for word in ("done", "failed", "errored"))
    good = int(_found(r"status codes: (\d+) 2xx", output))
    took_s = float(_found(r"finished in ([\d.]+)s", output))
    return Load(done, took_s, None, None, failed + errored + max(0, done - good))


def handshake_load(folder: Path, client: Issued, port: int, connections: int, seconds: float, core: int | None) -> Load:
    """A new mutual TLS connection for each request, `connections` at once, none of them resumed."""
    chain, key = client.write(folder, "client")
    return _generator(
        ["handshakes", str(port), str(connections), str(seconds), "--certificate", chain, "--key", key], core
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"no {pattern} in {text}")
    return match[1]


def tcp_load(mode: str, port: int, connections: int, seconds: float, core: int | None) -> Load:
    """`pingpong`, `download` or `upload` over TCP by our own generator."""
    return _generator([mode, str(port), str(connections), str(seconds)], core)


def rpc_load(protocol: str, port: int, connections: int, window: int, seconds: float, core: int | None) -> Load:
    """Calls of Bolt or Dubbo with content of 1 KiB, `window` at once on each connection."""
    options = ["load", protocol, str(port), str(connections), str(window), str(seconds)]
    return _generator(options, core, module="bench.rpc_peer")


def _generator(options: list[str], core: int | None, *, module: str = "bench.generator") -> Load:
    command = [*pinned(core), sys.executable, "-m", module, *options]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    return Load(**json.loads(output.splitlines()[-1]))
