"""HTTP/2 connections end without a lost request: when their listener changes, and when the proxy is told to go."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.differential.bed import address, cluster, config, hcm, vhost
from tests.support.http2_client import Http2Client
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.upstream import Exchange, Upstream, respond

LISTENER_TYPE = "type.googleapis.com/envoy.config.listener.v3.Listener"


class Site:
    """A proxy whose listener stands in a watched file, and its upstream."""

    def __init__(self, folder: Path, drain_time_s: int) -> None:
        ports = PortAllocator()
        self.upstream = Upstream("up")
        self.port = ports.take()
        self._file = folder / "lds.yaml"
        self.write("first")
        made = cluster("up")
        made["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = address(self.upstream.port)
        watched = {"path_config_source": {"path": str(self._file)}}
        bootstrap = {
            "node": {"id": "n", "cluster": "c"},
            "admin": {"address": address(ports.take())},
            "dynamic_resources": {"lds_config": watched},
            "static_resources": {"clusters": [made]},
        }
        options = ("--drain-strategy", "immediate", "--drain-time-s", str(drain_time_s))
        self.proxy = Proxy.start(ProxyKind.OURS, bootstrap, folder / "proxy", options=options)

    def write(self, name: str) -> None:
        """The listener, answering `name` at /direct."""
        routes = config(f"""
            - match: {{prefix: /direct}}
              direct_response: {{status: 200, body: {{inline_string: {name}}}}}
            - match: {{prefix: /}}
              route: {{cluster: up, timeout: 0s}}
            """)
        manager = hcm("web", [vhost("all", ["*"], routes)], drain_timeout="0.3s", access_log=[])
        listener: dict[str, Any] = {
            "@type": LISTENER_TYPE,
            "name": "web",
            "address": address(self.port),
            "filter_chains": [{"filters": [manager]}],
        }
        fresh = self._file.with_suffix(".new")
        fresh.write_text(yaml.safe_dump({"resources": [listener]}))
        fresh.rename(self._file)

    def close(self) -> None:
        self.proxy.stop()
        self.upstream.close()

    def serves(self, name: str) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with Http2Client(self.port) as client:
                if bytes(client.finish(client.request(path="/direct")).body) == name.encode():
                    return
            time.sleep(0.05)
        raise AssertionError(f"{name} is not served")


@pytest.fixture(params=[3])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """The parameter is the drain time in seconds."""
    made = Site(tmp_path, request.param)
    try:
        yield made
    finally:
        made.close()


def gate() -> tuple[threading.Event, Any]:
    """An answer that waits for the event."""
    opened = threading.Event()

    def step(exchange: Exchange) -> bool:
        exchange.read_body()
        opened.wait(20)
        return respond()(exchange)

    return opened, step


def test_a_changed_listener_lets_streams_finish_and_ends_their_connections(site: Site) -> None:
    site.serves("first")
    opened, step = gate()
    site.upstream.script(step)
    with Http2Client(site.port) as busy, Http2Client(site.port) as idle:
        waiting = busy.request(path="/wait")
        site.upstream.wait_for(1)
        assert bytes(idle.finish(idle.request(path="/direct")).body) == b"first"
        site.write("second")
        site.serves("second")
        # What is asked now on the old connection is served by the old chain, and told to go.
        assert bytes(busy.finish(busy.request(path="/direct")).body) == b"first"
        idle.read_until(lambda: idle.closed, 15.0)
        assert idle.closed
        assert idle.goaways[-1] == (1, 0)
        assert not busy.seen(waiting).over
        opened.set()
        assert busy.finish(waiting).status == 200
        busy.read_until(lambda: busy.closed, 15.0)
        assert busy.closed
        assert busy.goaways[0] == (2**31 - 1, 0)
        assert busy.goaways[-1] == (3, 0)


@pytest.mark.parametrize("site", [20], indirect=True)
def test_a_proxy_that_is_told_to_go_finishes_its_streams(site: Site) -> None:
    site.serves("first")
    opened, step = gate()
    site.upstream.script(step)
    with Http2Client(site.port) as busy:
        waiting = busy.request(path="/wait")
        site.upstream.wait_for(1)
        site.proxy.process.send_signal(signal.SIGTERM)
        time.sleep(1.5)  # longer than the proxy waits when nothing is going on
        assert site.proxy.process.poll() is None
        opened.set()
        assert busy.finish(waiting).status == 200
        assert busy.goaways[0] == (2**31 - 1, 0)
        site.proxy.process.wait(10)
