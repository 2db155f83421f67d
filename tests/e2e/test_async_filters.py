"""Filters that wait: what they cost a request is what its access log says, and its time-outs begin when they should."""

import json
from pathlib import Path
from typing import Any

from tests.support.client import Connection, request_bytes
from tests.support.packages import install
from tests.support.ports import PortAllocator
from tests.support.served import Served, listener

FILTERS = """
import trio
from mosn_xds.data.filters.api import StreamFilter


class Nap(StreamFilter):
    async def on_request(self, stream, end):
        await trio.sleep(0.4)
        if stream.request.get(b"x-fail"):
            raise ValueError("bad dream")
"""
GROUP = {"mosn_xds.stream_filters": {"acme.Nap": "acme_nap:Nap"}}
NAP = {"name": "nap", "typed_config": {"@type": "type.googleapis.com/acme.Nap"}}


def logged(path: Path) -> dict[str, Any]:
    return {
        "name": "log",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": {"code": "%RESPONSE_CODE%", "took": "%DURATION%"}},
        },
    }


def test_the_access_log_counts_the_time_that_a_filter_waited(tmp_path: Path) -> None:
    environment = install(tmp_path / "site", {"acme_nap.py": FILTERS}, GROUP)
    port = PortAllocator().take()
    web = listener("web", port, NAP)
    manager = web["filter_chains"][0]["filters"][0]["typed_config"]
    manager["access_log"] = [logged(tmp_path / "log")]
    lines: list[dict[str, Any]] = []

    def has(count: int) -> bool:
        text = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
        lines[:] = [json.loads(line) for line in text.splitlines()]
        return len(lines) == count

    with Served(tmp_path / "run", web, environment=environment) as served, Connection(port) as client:
        for number, headers in enumerate([[], [("x-fail", "1")]]):
            client.send(request_bytes("GET", "/", [("host", "test"), *headers]))
            assert client.read_response().status == (500 if headers else 200)
            served.wait(lambda number=number: has(number + 1))
            assert lines[-1]["took"] >= 400
