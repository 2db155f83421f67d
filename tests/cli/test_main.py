"""The command for people: what it prints, and what a script can do with its exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

RECORDINGS = Path(__file__).parent.parent / "recordings"


def mosn_xds(*arguments: str, timeout: float = 60, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`folder` is where it makes its own."""
    command = [sys.executable, "-m", "mosn_xds.cli.main", *arguments]
    environment = os.environ if folder is None else {**os.environ, "TMPDIR": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=environment)


def what_runs_there(folder: Path) -> str:
    """Processes that were started with a file of the folder."""
    return subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=False).stdout


def test_version():
    done = mosn_xds("version", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["version"]


def test_validate_accepts_what_pilot_agent_wrote():
    done = mosn_xds("validate", "--json", str(RECORDINGS / "bootstrap" / "sidecar.json"))
    (result,) = json.loads(done.stdout)
    assert done.returncode == 0, result
    assert result["ok"]


def test_validate_names_file_and_field(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("static_resources: {listeners: [{name: a, adress: {}}]}\n")
    done = mosn_xds("validate", str(file))
    assert done.returncode == 1
    assert "bad.yaml" in done.stdout
    assert "adress" in done.stdout


def test_status_without_a_proxy_says_where_it_looked():
    done = mosn_xds("status", "--admin", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "http://127.0.0.1:1/xds" in done.stderr


def test_status_takes_an_address_without_a_scheme():
    done = mosn_xds("status", "--admin", "127.0.0.1:1")
    assert done.returncode == 1
    assert "cannot read http://127.0.0.1:1/xds: [Errno 111]" in done.stderr


@pytest.mark.parametrize("body", [b"[]", b'{"configs": []}', b"LIVE"])
def test_status_of_something_else_says_so(body: bytes):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        done = mosn_xds("status", "--admin", f"http://127.0.0.1:{server.server_port}/")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ") and "--admin says where" in done.stderr


BAD_BOOTSTRAPS = {
    "an alias inside its own anchor": ("node: &a {id: *a}\n", "FILE: nested too deeply (is there an alias"),
    "far too deep": ("{a: " * 2000 + "}" * 2000, "FILE: nested too deeply"),
    "a resource": (
        '"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster\nname: a\n',
        "FILE: a bootstrap is wanted here, and this is a type.googleapis.com/envoy.config.cluster.v3.Cluster "
        "(resources are for `mosn-xds pilot DIRECTORY`, or a path_config_source)",
    ),
}


@pytest.mark.parametrize(("text", "said"), BAD_BOOTSTRAPS.values(), ids=BAD_BOOTSTRAPS)
def test_validate_says_in_one_line_what_is_no_bootstrap(tmp_path: Path, text: str, said: str):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    done = mosn_xds("validate", str(file))
    assert done.returncode == 1
    assert (done.stderr, done.stdout.count("\n")) == ("", 1)
    assert done.stdout.startswith(said.replace("FILE", str(file)))


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "127.0.0.1:http", ":15010"])
def test_pilot_listens_at_no_address_that_is_none(tmp_path: Path, address: str):
    done = mosn_xds("pilot", str(tmp_path), "--listen", address)
    assert done.returncode == 2
    assert f"{address} is no HOST:PORT" in done.stderr


@pytest.mark.parametrize("content", [b"name: a\n", b"[1]\n", b"7\n", b"\x7fELF\xd0\xff"])
def test_pilot_says_which_file_is_no_recording(tmp_path: Path, content: bytes):
    file = tmp_path / "mesh.yaml"
    file.write_bytes(content)
    done = mosn_xds("pilot", str(file), "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {file} is no recording: ")
    assert done.stderr.endswith("(YAML resources are served by folder)\n")


def test_an_unknown_command_is_usage():
    assert mosn_xds("nonsense").returncode == 2


def test_the_demo_tells_its_story_and_leaves_nothing_running(tmp_path: Path):
    done = mosn_xds("demo", timeout=100, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for seen in ("tick tock", "minimum_ring_size (4096) > maximum_ring_size (16)", "on the same sockets", "Done."):
        assert seen in done.stdout
    assert what_runs_there(tmp_path) == ""


def test_the_demo_of_mutual_tls_shows_the_peer_and_a_rotation_and_leaves_nothing_running(tmp_path: Path):
    done = mosn_xds("demo", "--mtls", timeout=100, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for seen in ("STRICT", "URI=spiffe://", "unknown ca", "certificate required", "[redacted]", "Done."):
        assert seen in done.stdout
    assert "PRIVATE KEY" not in done.stdout
    assert what_runs_there(tmp_path) == ""


def test_the_demo_of_rpcs_shows_a_canary_and_a_dead_host_and_leaves_nothing_running(tmp_path: Path):
    done = mosn_xds("demo", "--rpc", timeout=100, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for seen in ("bolt com.shop.Till:1.0.sell", "status 80: an error", "sa/guest", "tried again", "Done."):
        assert seen in done.stdout
    assert what_runs_there(tmp_path) == ""


@pytest.mark.parametrize("story", ["--mtls", "--rpc"])
def test_other_demos_are_not_kept_up(story: str):
    done = mosn_xds("demo", story, "--serve")
    assert done.returncode == 2 and story in done.stderr


def test_the_demo_that_is_kept_up_survives_a_broken_file_and_serves_what_was_good():
    command = [sys.executable, "-u", "-m", "mosn_xds.cli.main", "demo", "--serve"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored by what runs behind them
    try:
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with started as demo:

        def read_until(mark: str) -> str:
            text = ""
            for line in demo.stdout:
                text += line
                if mark in line:
                    return text
            raise AssertionError(text)

        try:
            said = read_until("Ctrl-C ends it.")
            shop = re.search(r"curl -s (http://\S+/books)", said)[1]
            file = Path(re.search(r"EDITOR (\S+)", said)[1])
            good = file.read_text()
            file.write_text("resources: [\n")
            assert "routes.yaml" in read_until("is not served as it stands")
            with urllib.request.urlopen(shop, timeout=5) as answer:
                assert answer.status == 200
            file.write_text(good.replace("/old", "/older"))
            read_until("pushed RouteConfiguration: 1 new or changed")
        finally:
            demo.send_signal(signal.SIGINT)
            code = demo.wait(20)
    assert code == 0
