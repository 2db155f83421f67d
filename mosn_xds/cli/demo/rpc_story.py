"""What ``demo --rpc`` does, and what it prints: Bolt and Dubbo behind two sidecars, a canary, a host that dies.

Calls go from clients here to the front's sidecar, over mutual TLS to the services' sidecar, and to one of three processes that
speak both protocols. Everything is real, as in the other demos, and nothing is left running.
"""

import ssl
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mosn_xds.cli.demo import rpc_mesh as mesh
from mosn_xds.cli.demo.rpc_frames import BoltSpeech, DubboSpeech, Speech
from mosn_xds.cli.demo.rpc_traffic import Caller
from mosn_xds.cli.demo.secure_mesh import FRONT, TRUST_DOMAIN
from mosn_xds.cli.demo.sidecar import Sidecar
from mosn_xds.cli.demo.stage import Stage
from mosn_xds.cli.demo.story import answers, check, end, failed, free_ports, wait_for
from mosn_xds.cli.demo.traffic import Load, Tally
from mosn_xds.pilot.authority import CertificateAuthority, CertificateService
from mosn_xds.pilot.resources import ResourceSet
from mosn_xds.pilot.server import Pilot

_CLIENTS = 4
_CALLS, _CANARIES = 200, 40
_BEFORE_S, _AFTER_S = 1.0, 2.0
_REPORTED_S = 1.2
"""Workers report their statistics each second."""
_SPEECHES: dict[str, type[BoltSpeech] | type[DubboSpeech]] = {"bolt": BoltSpeech, "dubbo": DubboSpeech}
_GUEST = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/guest"


class RpcDemo(Stage):
    """The authority, the services and both sidecars. `calls` are those made so far, by protocol."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.authority = CertificateAuthority()
        inbound = [(instance, protocol) for instance in mesh.INSTANCES for protocol in mesh.PROTOCOLS]
        taken = iter(free_ports(len(mesh.PROTOCOLS) + len(inbound) + len(mesh.INSTANCES)))
        self.ports = mesh.Ports(
            {protocol: next(taken) for protocol in mesh.PROTOCOLS},
            {key: next(taken) for key in inbound},
            {instance: next(taken) for instance in mesh.INSTANCES},
        )
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self.log = folder / "calls.log"
        self.calls = dict.fromkeys(mesh.PROTOCOLS, 0)

    def _start(self) -> None:
        for instance, port in self.ports.services.items():
            command = [sys.executable, "-m", "mosn_xds.cli.demo.rpc_service", instance, str(port)]
            log = self._stack.enter_context((self._folder / f"{instance}.log").open("wb"))
            service = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            self._stack.callback(end, service)
            self.services[instance] = service
        tokens = {"token-of-front": FRONT, "token-of-till": mesh.TILL}
        istiod = Pilot(
            ResourceSet(),
            tls=self.authority.issue("istiod.istio-system.svc"),
            certificates=CertificateService(self.authority, tokens.get),
        )
        self._stack.callback(istiod.stop)
        root = self._folder / "root-cert.pem"
        root.write_bytes(self.authority.root)
        self.front = Sidecar("front", self._folder, self._stack, mesh.caller(self.ports))
        self.till = Sidecar("till", self._folder, self._stack, mesh.callee(self.ports, str(self.log)))
        for sidecar in (self.front, self.till):
            sidecar.start(istiod.port, root)
        for instance, port in self.ports.services.items():
            wait_for(partial(answers, port), f"service {instance}")
        for sidecar in (self.front, self.till):
            wait_for(sidecar.is_ready, f"the sidecar of {sidecar.name}")

    def caller(self, protocol: str, *, canary: bool = False) -> Caller:
        """A client of the front's sidecar."""
        properties = {mesh.CANARY: "yes"} if canary else {}
        return Caller(_speech(protocol), self.ports.outbound[protocol], *mesh.SERVICES[protocol], properties)

    def stranger(self, protocol: str) -> Caller:
        """A client of the services' sidecar, with a certificate of the mesh that is not the front's."""
        pair = self.authority.issue(_GUEST)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.authority.root.decode())
        chain, key = self._folder / "guest.pem", self._folder / "guest-key.pem"
        chain.write_bytes(pair.chain)
        key.write_bytes(pair.key)
        context.load_cert_chain(chain, key)
        port = self.ports.inbound[mesh.INSTANCES[0], protocol]
        return Caller(_speech(protocol), port, *mesh.SERVICES[protocol], tls=context)


def run(console: Console) -> int:
    """Tell the whole story; the exit code."""
    with tempfile.TemporaryDirectory(prefix="mosn-xds-demo-") as folder, RpcDemo(Path(folder)) as demo:
        _who_calls(console, demo)
        _canary(console, demo)
        _host_killed(console, demo)
        _counted(console, demo)
        console.print("\n[bold green]Done.[/] Everything was real: frames, TLS, processes. Nothing is left running.")
    return 0


def _who_calls(console: Console, demo: RpcDemo) -> None:
    console.print("\n[bold]caller → front's sidecar ═ mutual TLS ═ services' sidecar → service[/]")
    table = Table()
    for column in ("call", "by", "the answer", "in the services' access log"):
        table.add_column(column, overflow="fold")
    for protocol, (service, method) in mesh.SERVICES.items():
        target = f"{protocol} {service}.{method}"
        for who, caller, wanted in (
            ("front", demo.caller(protocol), 200),
            ("guest", demo.stranger(protocol), None),
        ):
            demo.calls[protocol] += who == "front"
            response = caller.call()
            caller.close()
            line = f"{target} {response.code} spiffe://{TRUST_DOMAIN}/ns/shop/sa/{who}"
            wait_for(partial(_is_logged, demo.log, line), f"{line!r} in the access log", 5.0)
            said = _speech(protocol).text(response) if response.status == 200 else "an error"
            table.add_row(target, who, f"status {response.code}: {said}", line.removeprefix(target).strip())
            check((response.status == 200) is (wanted == 200), f"{target} by {who}: status {response.code}")
    console.print(table)


def _canary(console: Console, demo: RpcDemo) -> None:
    console.print(f"\n[bold]A canary: calls with {mesh.CANARY}: yes go to version 2[/]")
    table = Table()
    for column in ("calls", f"with {mesh.CANARY}", "v1-a", "v1-b", "v2", "failed"):
        table.add_column(column, justify="right")
    for protocol in mesh.PROTOCOLS:
        for canary, count in ((False, _CALLS), (True, _CANARIES)):
            tally = demo.caller(protocol, canary=canary).burst(count)
            demo.calls[protocol] += count
            shares = [f"{tally.share(instance):.0%}" for instance in mesh.INSTANCES]
            table.add_row(f"{count} {protocol}", "yes" if canary else "no", *shares, str(failed(tally)))
            check(failed(tally) == 0, f"{protocol} calls failed")
            check(tally.share("v2") == float(canary), f"{protocol}: the canary's route did not hold")
    console.print(table)


def _host_killed(console: Console, demo: RpcDemo) -> None:
    console.print(f"\n[bold]v1-a is killed while {2 * _CLIENTS} clients call[/]")
    table = Table()
    for column in ("calls", "before", "since", "of them by v1-b", "tried again", "failed"):
        table.add_column(column, justify="right")
    loads = {protocol: Load(partial(demo.caller, protocol), _CLIENTS) for protocol in mesh.PROTOCOLS}
    before: dict[str, Tally] = {}
    since: dict[str, Tally] = {}
    try:
        time.sleep(_BEFORE_S)
        before = {protocol: load.take() for protocol, load in loads.items()}
        demo.services["v1-a"].kill()
        time.sleep(_AFTER_S)
    finally:
        since = {protocol: load.stop() for protocol, load in loads.items()}
    time.sleep(_REPORTED_S)
    for protocol in mesh.PROTOCOLS:
        first, second = before[protocol], since[protocol]
        demo.calls[protocol] += first.total + second.total
        retries = _stat(demo.front, f"cluster.{protocol}-v1.upstream_rq_retry")
        lost = failed(first) + failed(second)
        share = f"{second.share('v1-b'):.0%}"
        table.add_row(protocol, str(first.total), str(second.total), share, str(retries), str(lost))
        check(first.share("v1-a") > 0, "the host that was killed had no calls before")
        check(lost == 0, f"{lost} {protocol} calls failed")
        check(retries > 0, f"no {protocol} call was tried again")
    console.print(table)


def _counted(console: Console, demo: RpcDemo) -> None:
    console.print("\n[bold]What the front's sidecar has counted[/]")
    table = Table()
    for column in ("protocol", "service", "method", "calls", "errors"):
        table.add_column(column)
    for protocol, (service, method) in mesh.SERVICES.items():
        prefix = f"generic_proxy.front.rpc.{protocol}.{service}.{method}"
        wait_for(
            lambda prefix=prefix, made=demo.calls[protocol]: _stat(demo.front, f"{prefix}.rq_total") == made,  # type: ignore[misc]
            f"{demo.calls[protocol]} {protocol} calls to be counted",
            5.0,
        )
        errors = _stat(demo.front, f"{prefix}.rq_error")
        table.add_row(protocol, service, method, str(demo.calls[protocol]), str(errors))
        check(errors == 0, f"{errors} errors were counted")
    console.print(table)


def _speech(protocol: str) -> Speech:
    return _SPEECHES[protocol]()


def _is_logged(log: Path, line: str) -> bool:
    return log.exists() and line in log.read_text().splitlines()


def _stat(sidecar: Sidecar, name: str) -> int:
    for line in sidecar.admin("/stats").splitlines():
        found, _, value = line.rpartition(": ")
        if found == name:
            return int(value)
    return 0
