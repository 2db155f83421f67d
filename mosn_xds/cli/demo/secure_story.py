"""What ``demo --mtls`` does, and what it prints: mutual TLS between two sidecars, who the peer is, and a rotation.

Everything is real: two agents, each of which asks an authority in the embedded Pilot for its certificate (gRPC over TLS, a
token from a file), as istiod's `IstioCertificateService` is asked; certificates live for seconds here, so that they are
replaced before the reader's eyes. Nothing is left running.
"""

import http.client
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cryptography import x509
from rich.console import Console
from rich.table import Table

from mosn_xds.cli.demo import secure_mesh as mesh
from mosn_xds.cli.demo.sidecar import Sidecar
from mosn_xds.cli.demo.stage import Stage
from mosn_xds.cli.demo.story import answers, check, end, failed, free_ports, wait_for
from mosn_xds.cli.demo.traffic import HttpAsker, Load
from mosn_xds.pilot.authority import CertificateAuthority, CertificateService, KeyPair
from mosn_xds.pilot.resources import ResourceSet
from mosn_xds.pilot.server import Pilot

CERTIFICATE_LIFE_S = 6.0
_ROTATIONS = 2
_CLIENTS = 4
_TOKENS = {"token-of-front": mesh.FRONT, "token-of-catalog": mesh.CATALOG}


class SecureDemo(Stage):
    """The authority, the service and both sidecars."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.authority = CertificateAuthority()
        self.port, self.inbound_port, self.service_port = free_ports(3)

    def _start(self) -> None:
        command = [sys.executable, "-m", "mosn_xds.cli.demo.service", "catalog", str(self.service_port), "http"]
        log = self._stack.enter_context((self._folder / "service.log").open("wb"))
        self._stack.callback(end, subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        service = CertificateService(self.authority, _TOKENS.get, ttl_s=CERTIFICATE_LIFE_S)
        istiod = Pilot(ResourceSet(), tls=self.authority.issue("istiod.istio-system.svc"), certificates=service)
        self._stack.callback(istiod.stop)
        root = self._folder / "root-cert.pem"
        root.write_bytes(self.authority.root)
        self.front = Sidecar("front", self._folder, self._stack, mesh.caller(self.port, self.inbound_port))
        self.catalog = Sidecar("catalog", self._folder, self._stack, mesh.callee(self.inbound_port, self.service_port))
        for sidecar in (self.front, self.catalog):
            sidecar.start(istiod.port, root)
        wait_for(partial(answers, self.service_port), "the service")
        for sidecar in (self.front, self.catalog):
            wait_for(sidecar.is_ready, f"the sidecar of {sidecar.name}")


def run(console: Console) -> int:
    """Tell the whole story; the exit code."""
    with tempfile.TemporaryDirectory(prefix="mosn-xds-demo-") as folder, SecureDemo(Path(folder)) as demo:
        _who_is_who(console, demo)
        _who_called(console, demo)
        _who_gets_in(console, demo, Path(folder))
        _rotation(console, demo)
        console.print("\n[bold green]Done.[/] Everything was real: CSR, gRPC, TLS, processes. Nothing is left running.")
    return 0


def _who_is_who(console: Console, demo: SecureDemo) -> None:
    console.print("\n[bold]Two sidecars, each with a certificate that its own agent asked for[/]")
    table = Table()
    for column in ("sidecar", "identity", "serial", "good for", "its key in /config_dump"):
        table.add_column(column)
    for sidecar in (demo.front, demo.catalog):
        certificate = sidecar.certificate()
        life = certificate.not_valid_after_utc.timestamp() - time.time()
        shown = "[redacted]" if "PRIVATE KEY" not in sidecar.admin("/config_dump") else "LEAKED"
        table.add_row(sidecar.name, _identity(certificate), _serial(certificate), f"{life:.0f} s", rf"\{shown}")
        check(shown == "[redacted]", "a private key is shown")
    console.print(table)
    check(_identity(demo.front.certificate()) == mesh.FRONT, "the identity is not the token's")


def _who_called(console: Console, demo: SecureDemo) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=5)
    connection.request("GET", "/books")
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    console.print("\n[bold]curl → front's sidecar ═ mutual TLS ═ catalog's sidecar → service[/]")
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("how it looks", overflow="fold")
    table.add_row("the answer", f"{response.status} from {body['service']}")
    table.add_row("what the service hears of its caller (XFCC)", body["client"] or "nothing")
    console.print(table)
    check(response.status == 200 and f"URI={mesh.FRONT}" in (body["client"] or ""), "the peer is not known")


def _who_gets_in(console: Console, demo: SecureDemo, folder: Path) -> None:
    stranger = CertificateAuthority("elsewhere")
    attempts: list[tuple[str, Callable[[], str], bool]] = [
        ("plain HTTP", lambda: _plain(demo.inbound_port), False),
        ("TLS without a certificate", lambda: _tls(demo, folder, None), False),
        ("TLS, a certificate of another authority", lambda: _tls(demo, folder, stranger.issue(mesh.FRONT)), False),
        (
            "TLS, another trust domain",
            lambda: _tls(demo, folder, demo.authority.issue("spiffe://elsewhere/ns/a/sa/b")),
            False,
        ),
        ("TLS, a certificate of the mesh", lambda: _tls(demo, folder, demo.authority.issue(mesh.FRONT)), True),
    ]
    console.print("\n[bold]Who gets in at the catalog's sidecar (STRICT)[/]")
    table = Table()
    for column in ("who comes with", "what happens"):
        table.add_column(column)
    for who, attempt, gets_in in attempts:
        seen = attempt()
        table.add_row(who, seen)
        check((seen == "200") is gets_in, f"{who}: {seen}")
    console.print(table)


def _rotation(console: Console, demo: SecureDemo) -> None:
    console.print(
        f"\n[bold]Certificates are replaced every {CERTIFICATE_LIFE_S / 2:g} s while {_CLIENTS} clients ask[/]"
    )
    table = Table()
    for column in ("after", "front's serial", "catalog's serial", "requests", "failed"):
        table.add_column(column, justify="right")
    started = time.monotonic()
    load = Load(partial(HttpAsker, demo.port, "/books"), _CLIENTS)
    lost = 0
    try:
        before = _serials(demo)
        for _ in range(_ROTATIONS):
            held = before
            wait_for(lambda held=held: all(a != b for a, b in zip(_serials(demo), held, strict=True)), "the rotation")  # type: ignore[misc]
            before = _serials(demo)
            tally = load.take()
            lost += failed(tally)
            table.add_row(f"{time.monotonic() - started:.0f} s", *before, str(tally.total), str(failed(tally)))
    finally:
        lost += failed(load.stop())
    console.print(table)
    check(lost == 0, f"{lost} requests failed")


def _serials(demo: SecureDemo) -> tuple[str, str]:
    return _serial(demo.front.certificate()), _serial(demo.catalog.certificate())


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"[:12]


def _identity(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return ", ".join(names.get_values_for_type(x509.UniformResourceIdentifier))


def _plain(port: int) -> str:
    return _request(socket.create_connection(("127.0.0.1", port), timeout=5))


def _tls(demo: SecureDemo, folder: Path, pair: KeyPair | None) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=demo.authority.root.decode())
    if pair is not None:
        chain, key = folder / "client.pem", folder / "client-key.pem"
        chain.write_bytes(pair.chain)
        key.write_bytes(pair.key)
        context.load_cert_chain(chain, key)
    raw = socket.create_connection(("127.0.0.1", demo.inbound_port), timeout=5)
    try:
        return _request(context.wrap_socket(raw))
    except OSError as error:
        raw.close()
        return _reason(error)


def _request(sock: socket.socket) -> str:
    """The status, or how the connection ended."""
    with sock:
        try:
            sock.sendall(b"GET /books HTTP/1.1\r\nhost: catalog\r\nconnection: close\r\n\r\n")
            answer = sock.recv(4096)
        except OSError as error:
            return _reason(error)
    return answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/") else "closed without an answer"


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS alert: {(error.reason or 'handshake failed').lower().replace('_', ' ')}"
    return error.strerror or "closed"
