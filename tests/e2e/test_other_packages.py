"""Filters of other packages in a whole proxy: what is wrong with them is refused in time, said aloud, and never let through."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.client import Connection, request_bytes
from tests.support.packages import install
from tests.support.ports import PortAllocator
from tests.support.served import Served, listener

FILTERS = """
from mosn_xds.data.filters.api import FilterOptions, Reply, StreamFilter


class Teapot(StreamFilter):
    class Options(FilterOptions, frozen=True):
        pots: int = 1

    def __init__(self, options, context):
        super().__init__(options, context)
        if options.pots == 13:  # what its Options should have said
            raise ValueError("13 pots bring bad luck")

    def on_request(self, stream, end):
        return Reply(418, str(self.options.pots).encode())
"""
GROUP = {"mosn_xds.stream_filters": {"acme.Teapot": "acme_teapot:Teapot"}}


def teapot(**options: Any) -> dict[str, Any]:
    return {"name": "tea", "typed_config": {"@type": "type.googleapis.com/acme.Teapot", **options}}


@pytest.fixture
def acme(tmp_path: Path) -> dict[str, str]:
    """The environment in which the package is installed."""
    return install(tmp_path / "site", {"acme_teapot.py": FILTERS}, GROUP)


@pytest.fixture
def port() -> int:
    return PortAllocator().take()


def get(port: int, host: str = "127.0.0.1") -> tuple[int, bytes] | None:
    """Status and body; None where the connection ends without an answer."""
    with Connection(port, host=host) as client:
        client.send(request_bytes("GET", "/", [("host", "test")]))
        if client.closes_within(0.5):
            return None
        found = client.read_response()
        return found.status, found.body


def status(served: Served) -> tuple[int, str]:
    """What `mosn-xds status` prints, and its exit code."""
    command = [str(Path(sys.executable).with_name("mosn-xds")), "status", "--admin"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{served.proxy.admin_port}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.returncode, done.stdout


def shown(served: Served, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in served.xds()["resources"] if one["name"] == name)
    return found


def test_a_wrong_option_is_a_nack_with_its_path_and_the_last_good_serves(
    tmp_path: Path, acme: dict[str, str], port: int
) -> None:
    with Served(tmp_path / "run", listener("web", port, teapot(pots=2)), environment=acme) as served:
        assert get(port) == (418, b"2")
        served.push(listener("web", port, teapot(pots=2, colour="red")))
        reason = (
            "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.colour: "
            "Object contains unknown field `colour` (the options of Teapot: pots)"
        )
        assert served.nack() == f"Error adding/updating listener(s) web: {reason}\n"
        assert shown(served, "web")["refusal"]["reason"] == reason
        assert get(port) == (418, b"2")
        code, text = status(served)
        assert (code, reason in text) == (1, True)
        assert served.proxy.stats("^server.worker_refusals$") == {"server.worker_refusals": 0}
        assert served.proxy.admin("/ready") == (200, "LIVE\n")
        served.push(listener("web", port, teapot(pots=3)))
        served.wait(lambda: get(port) == (418, b"3"))
        assert status(served)[0] == 0


def test_what_no_worker_can_build_is_said_where_people_look(tmp_path: Path, acme: dict[str, str], port: int) -> None:
    with Served(tmp_path / "run", listener("web", port, teapot(pots=13)), environment=acme, wait_ready=False) as served:
        reason = "ValueError: 13 pots bring bad luck"
        served.wait(lambda: bool(served.worker_refusals()))
        assert served.proxy.admin("/ready") == (
            503,
            f"INITIALIZING\nListener web cannot be built by a worker: {reason}\n",
        )
        assert shown(served, "web")["status"] == "refused by workers"
        assert served.worker_refusals() == [
            {"type": "Listener", "name": "web", "reason": reason, "serving_last_good": False}
        ]
        assert served.proxy.stats("^xds.refused_by_workers$|^server.(live|state)$") == {
            "server.live": 0,
            "server.state": 3,
            "xds.refused_by_workers": 1,
        }
        code, text = status(served)
        assert (code, f"Listener\tweb\tdoes not serve\t{reason}" in text) == (1, True)
        served.wait(lambda: get(port) is None)
        served.push(listener("web", port, teapot(pots=1)))
        served.wait(lambda: served.proxy.admin("/ready") == (200, "LIVE\n"))
        assert get(port) == (418, b"1")
        assert (status(served)[0], served.worker_refusals()) == (0, [])


def test_the_predecessor_of_what_no_worker_can_build_serves_on(tmp_path: Path, acme: dict[str, str], port: int) -> None:
    with Served(tmp_path / "run", listener("web", port, teapot(pots=2)), environment=acme) as served:
        served.push(listener("web", port, teapot(pots=13)))
        served.wait(lambda: bool(served.worker_refusals()))
        assert served.worker_refusals()[0]["serving_last_good"] is True
        assert get(port) == (418, b"2")
        assert served.proxy.admin("/ready") == (200, "LIVE\n")
        code, text = status(served)
        assert (code, "Listener\tweb\tits last good serves\t" in text) == (1, True)
        served.push(listener("web", port, teapot(pots=4)))
        served.wait(lambda: get(port) == (418, b"4"))
        assert status(served)[0] == 0


@pytest.mark.parametrize(
    "options", [{"pots": 13}, {"colour": "red"}], ids=["refused by workers", "refused by the agent"]
)
def test_a_captured_listener_that_is_refused_never_falls_to_the_catch_all(
    tmp_path: Path, acme: dict[str, str], port: int, options: dict[str, Any]
) -> None:
    inside = PortAllocator().take()
    proxy_protocol = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
    capture = listener(
        "catch-all",
        port,
        use_original_dst=True,
        listener_filters=[{"name": "proxy", "typed_config": {"@type": proxy_protocol}}],
    )
    guarded = listener("guarded", inside, teapot(**options), bind_to_port=False)

    def captured(destination: int) -> bytes:
        """What is answered to a connection that was on its way to a port of this machine."""
        with Connection(port) as client:
            client.send(f"PROXY TCP4 192.0.2.7 127.0.0.1 1024 {destination}\r\n".encode())
            client.send(request_bytes("GET", "/", [("host", "test"), ("connection", "close")]))
            return client.read_to_end(5).rpartition(b"\r\n")[2]

    with Served(tmp_path / "run", capture, environment=acme) as served:
        assert captured(inside) == b"catch-all"
        served.push(capture, guarded)
        served.wait(lambda: captured(inside) != b"catch-all")
        assert captured(inside) == b""
        assert captured(inside + 1) == b"catch-all"
        served.push(capture, listener("guarded", inside, teapot(pots=5), bind_to_port=False))
        served.wait(lambda: captured(inside) == b"5")


@pytest.mark.parametrize(
    "command",
    [["mosn-xds", "validate"], ["mosn-xds-proxy", "--mode", "validate", "-c"], ["mosn-xds-proxy", "-c"]],
    ids=" ".join,
)
def test_a_wrong_option_in_a_bootstrap_is_found_without_a_worker(
    tmp_path: Path, acme: dict[str, str], port: int, command: list[str]
) -> None:
    def run(options: dict[str, Any]) -> tuple[int, str]:
        resource = listener("web", port, teapot(**options))
        del resource["@type"]
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump({"static_resources": {"listeners": [resource]}}))
        program = str(Path(sys.executable).with_name(command[0]))
        done = subprocess.run(
            [program, *command[1:], str(config)],
            env={**os.environ, **acme},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return done.returncode, done.stdout + done.stderr

    code, text = run({"colour": "red"})
    place = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.colour"
    assert code == 1
    assert f"{place}: Object contains unknown field `colour` (the options of Teapot: pots)" in text
    if "validate" in command:
        code, text = run({"pots": 2})
        assert (code, "OK" in text) == (0, True)


def test_sockets_of_what_no_worker_could_build_are_not_left_to_its_successor(
    tmp_path: Path, acme: dict[str, str], port: int
) -> None:
    elsewhere = PortAllocator().take()
    with Served(tmp_path / "run", listener("web", port, teapot(pots=2)), environment=acme) as served:
        served.push(listener("web", elsewhere, teapot(pots=13)))
        served.wait(lambda: bool(served.worker_refusals()))
        assert get(port) == (418, b"2")
        served.push(listener("web", port, teapot(pots=3)))
        served.wait(lambda: not served.worker_refusals())
        served.wait(lambda: get(port) == (418, b"3"))
        with pytest.raises(ConnectionRefusedError):
            Connection(elsewhere)
