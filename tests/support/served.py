"""Our proxy with a Pilot of the test's own beside it: resources are given as proto JSON, over real ADS."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from mosn_xds.control.bootstrap.reading import prepare
from mosn_xds.pilot import Pilot, ResourceSet
from mosn_xds.pilot.authoring import serve
from mosn_xds.xds.messages import message_class
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind

_FILTERS = "type.googleapis.com/envoy.extensions.filters"


def message(fields: Mapping[str, Any]) -> Message:
    """A resource from proto JSON with ``@type``; inner types that nobody knows become TypedStructs."""
    rest = {key: value for key, value in fields.items() if key != "@type"}
    found = message_class(fields["@type"])
    assert found is not None, fields["@type"]
    return json_format.ParseDict(prepare(rest), found())


def listener(name: str, port: int, *http_filters: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A listener on loopback that answers ``NAME`` to everything, through these filters; `fields` join it."""
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [
            *http_filters,
            {"name": "router", "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"}},
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": name}}}
                    ],
                }
            ]
        },
    }
    return {
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        **fields,
    }


class Served:
    """A running pair; `push` replaces everything that Pilot serves."""

    def __init__(
        self,
        folder: Path,
        *resources: dict[str, Any] | Message,
        kind: ProxyKind = ProxyKind.OURS,
        delta: bool = True,
        environment: Mapping[str, str] | None = None,
        wait_ready: bool = True,
        **bootstrap: Any,
    ) -> None:
        self._resources = ResourceSet()
        self.push(*resources)
        self.pilot = Pilot(self._resources)
        ads = {"ads": {}, "resource_api_version": "V3"}
        address = {"address": "127.0.0.1", "port_value": self.pilot.port}
        http2 = {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
        endpoint = {"endpoint": {"address": {"socket_address": address}}}
        pilot = {
            "name": "pilot",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
            "load_assignment": {"cluster_name": "pilot", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
        admin_port = PortAllocator().take()
        self.proxy = Proxy.start(
            kind,
            {
                "node": {"id": "me", "cluster": "here"},
                "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
                "dynamic_resources": {
                    "ads_config": {
                        "api_type": "DELTA_GRPC" if delta else "GRPC",
                        "transport_api_version": "V3",
                        "grpc_services": [{"envoy_grpc": {"cluster_name": "pilot"}}],
                    },
                    "lds_config": ads,
                    "cds_config": ads,
                },
                "static_resources": {"clusters": [pilot]},
                **bootstrap,
            },
            folder,
            environment=environment,
            wait_ready=wait_ready,
        )

    def __enter__(self) -> "Served":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.proxy.kill()
        self.pilot.stop()

    def push(self, *resources: dict[str, Any] | Message) -> None:
        """Serve exactly these."""
        serve(self._resources, *[message(one) if isinstance(one, dict) else one for one in resources])

    def nack(self, number: int = 1, timeout_s: float = 20.0) -> str:
        """The text of the `number`th refusal, once it has come."""
        assert self.pilot.wait_for(lambda pilot: len(pilot.nacks) >= number, timeout_s), self.proxy.log_tail()
        return self.pilot.nacks[number - 1].message

    def xds(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.proxy.admin("/xds")[1])
        return found

    def worker_refusals(self) -> list[dict[str, Any]]:
        """What workers could not build; nothing while the admin API is not there yet."""
        try:
            found: list[dict[str, Any]] = self.xds()["worker_refusals"]
        except OSError:
            return []
        return found

    def wait(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Until `condition` holds: what other processes do takes a moment."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.proxy.log_tail()
            time.sleep(0.02)
