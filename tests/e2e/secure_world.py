"""Two sidecars with mutual TLS between them and an SDS server of the test's own: what the demo shows, for tests that press.

A client's request goes in plaintext to the caller's sidecar, over mutual TLS to the callee's, and on to an upstream.
Connections between the sidecars live for few requests, so that handshakes happen all the time.
"""

import contextlib
import socket
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509

from mosn_xds.cli.demo import secure_mesh
from mosn_xds.pilot import Pilot, ResourceSet
from mosn_xds.pilot.directory import encode_resource
from mosn_xds.pilot.resources import SECRET, Change
from tests.e2e.load_tools import upstreams
from tests.support.any_secrets import secret_bytes
from tests.support.authority import Authority, Issued
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind

REQUESTS_PER_CONNECTION = 40
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


class SecureWorld:
    """See the module. `serial` counts what was issued; secrets of both sidecars are the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority()
        self.issued: list[Issued] = []
        self._stack = contextlib.ExitStack()
        ports = PortAllocator()
        self.port, self.inbound_port = ports.take(), ports.take()
        self._admin = {"caller": ports.take(), "callee": ports.take()}
        (upstream, _) = self._stack.enter_context(upstreams(folder, ports))
        self._ports = ports
        self._configs = {
            "caller": secure_mesh.caller(self.port, self.inbound_port),
            "callee": secure_mesh.callee(self.inbound_port, upstream),
        }
        self._configs["caller"][0]["typed_extension_protocol_options"] = {
            _OPTIONS: {
                "@type": f"type.googleapis.com/{_OPTIONS}",
                "common_http_protocol_options": {"max_requests_per_connection": REQUESTS_PER_CONNECTION},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        }
        self.resources = ResourceSet()
        self.secrets = Pilot(self.resources)
        self._stack.callback(self.secrets.stop)
        self.rotate()
        roots = {"trusted_ca": {"inline_string": self.authority.root}}
        self.say("ROOTCA", secret_bytes("ROOTCA", validation_context=roots))
        self.proxies: dict[str, Proxy] = {}

    def __enter__(self) -> "SecureWorld":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def say(self, name: str, raw: bytes) -> None:
        """Push a secret to both sidecars."""
        self.resources.apply([Change(SECRET, str(len(self.issued)), {name: raw})])

    def rotate(self, end: timedelta = timedelta(days=1)) -> Issued:
        """Push a new certificate."""
        start = min(timedelta(hours=-1), end - timedelta(hours=1))
        new = self.authority.issue(secure_mesh.FRONT, secure_mesh.CATALOG, start=start, end=end)
        self.issued.append(new)
        self.say("default", secret_bytes("default", tls_certificate=new.config()))
        return new

    def start(self, *options: str, more: dict[str, Any] | None = None) -> None:
        """Both sidecars, ready. `more` is merged into their static resources."""
        for name, entries in self._configs.items():
            served: dict[str, dict[str, bytes]] = {}
            for entry in entries:
                type_url, resource, raw = encode_resource(entry, name)
                served.setdefault(type_url, {})[resource] = raw
            held = ResourceSet()
            held.replace(served)
            pilot = Pilot(held)
            self._stack.callback(pilot.stop)
            bootstrap = yaml.safe_load(secure_mesh.bootstrap(name, pilot.port, self._admin[name]))
            static = bootstrap["static_resources"]
            static["clusters"].append(self._sds_cluster(static["clusters"][0]))
            for field, values in (more or {}).items():
                static.setdefault(field, []).extend(values)
            proxy = Proxy.start(ProxyKind.OURS, bootstrap, self.folder / name, options=options)
            self._stack.callback(proxy.kill)
            self.proxies[name] = proxy

    def _sds_cluster(self, pilot: dict[str, Any]) -> dict[str, Any]:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self.secrets.port}}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        return {**pilot, "name": "sds-grpc", "load_assignment": {"cluster_name": "sds-grpc", "endpoints": endpoints}}

    def served_serial(self) -> int:
        """Of the certificate that the callee's sidecar shows in a new handshake."""
        chain, key = self.issued[0].write(self.folder, "client")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.authority.root)
        context.load_cert_chain(chain, key)
        raw = socket.create_connection(("127.0.0.1", self.inbound_port), timeout=5)
        with context.wrap_socket(raw) as secure:
            found = secure.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(found or b"").serial_number
