"""The command for people: what it prints, and what a script can do with its exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
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
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:

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
