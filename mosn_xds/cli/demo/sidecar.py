"""A sidecar of the demos with mutual TLS: an agent that asks an authority for its certificate, and the Pilot that serves it."""

import base64
import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from cryptography import x509

from mosn_xds.cli.demo import secure_mesh as mesh
from mosn_xds.cli.demo.story import DemoFailed, end, free_ports
from mosn_xds.pilot.directory import encode_resource
from mosn_xds.pilot.resources import ResourceSet
from mosn_xds.pilot.server import Pilot


class Sidecar:
    """One agent with its Pilot and its files."""

    def __init__(self, name: str, folder: Path, stack: contextlib.ExitStack, resources: list[dict[str, Any]]) -> None:
        self.name = name
        self.admin_port = free_ports(1)[0]
        self._folder = folder
        self._log = folder / f"{name}.log"
        served: dict[str, dict[str, bytes]] = {}
        for entry in resources:
            type_url, resource, raw = encode_resource(entry, name)
            served.setdefault(type_url, {})[resource] = raw
        held = ResourceSet()
        held.replace(served)
        self._pilot = Pilot(held)
        stack.callback(self._pilot.stop)
        self._stack = stack
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ca_port: int, root: Path) -> None:
        """With the environment that a pod would have."""
        token = self._folder / f"{self.name}.token"
        token.write_text(f"token-of-{self.name}")
        bootstrap = self._folder / f"{self.name}.yaml"
        bootstrap.write_text(mesh.bootstrap(self.name, self._pilot.port, self.admin_port))
        environment = {
            **os.environ,
            "MOSN_XDS_IDENTITY": "ca",
            "CA_ADDR": f"127.0.0.1:{ca_port}",
            "CA_ROOT_CA": str(root),
            "CA_TOKEN_PATH": str(token),
            "TRUST_DOMAIN": mesh.TRUST_DOMAIN,
            "POD_NAMESPACE": "shop",
            "SERVICE_ACCOUNT": self.name,
        }
        command = [sys.executable, "-m", "mosn_xds.cli.proxy", "-c", str(bootstrap), "--concurrency", "2"]
        command += ["--drain-time-s", "5", "-l", "warning", "--file-flush-interval-msec", "100"]
        log = self._stack.enter_context(self._log.open("wb"))
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        self._stack.callback(end, self.process)

    def is_ready(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise DemoFailed(f"the sidecar of {self.name} ended:\n{self._log.read_text()}")
        try:
            return self.admin("/ready") == "LIVE\n"
        except OSError:
            return False

    def admin(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as page:
            return str(page.read().decode())

    def certificate(self) -> x509.Certificate:
        """The one in use, from `/config_dump`; its key is not there."""
        dump = json.loads(self.admin("/config_dump?resource=dynamic_active_secrets"))
        for entry in dump["configs"]:
            if entry["name"] == "default":
                chain = entry["secret"]["tls_certificate"]["certificate_chain"]["inline_bytes"]
                return x509.load_pem_x509_certificate(base64.b64decode(chain))
        raise DemoFailed(f"{self.name} has no certificate")
