"""A mesh that changes its trust domain: workloads of the new one, and of its aliases, know each other by certificates of their own.

Without pilot-agent each proxy asks the authority for its certificate; the identity is made of `TRUST_DOMAIN`. Which names a
peer may have Pilot says, and writes aliases out: a prefix for each trust domain on a listener, an identity in each of them for
an upstream, principals in each of them in a policy.
"""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mosn_xds.cli.demo import secure_mesh
from mosn_xds.pilot.authority import CertificateAuthority, CertificateService
from mosn_xds.pilot.resources import ResourceSet
from mosn_xds.pilot.server import Pilot
from tests.support.ports import PortAllocator
from tests.support.proxies import Proxy, ProxyKind
from tests.support.upstream import Upstream

NEW, ALIAS, OTHER = "new.mesh", "old.mesh", "other.mesh"
MESH = (NEW, ALIAS)
_EXTENSIONS = "type.googleapis.com/envoy.extensions"


def identity(domain: str, account: str) -> str:
    return f"spiffe://{domain}/ns/shop/sa/{account}"


class Mesh:
    """One callee of the new trust domain, and who calls it; every proxy has an identity of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._ports = PortAllocator()
        self.authority = CertificateAuthority()
        service = CertificateService(self.authority, lambda token: token)  # whoever says who he is is believed
        self._istiod = Pilot(ResourceSet(), tls=self.authority.issue("istiod.istio-system.svc"), certificates=service)
        stack.callback(self._istiod.stop)
        (folder / "root.pem").write_bytes(self.authority.root)
        self.upstream = Upstream("service", "127.0.0.1", self._ports.take())
        stack.callback(self.upstream.close)
        self.inbound_port = self._ports.take()

    def callee(self, account: str = "catalog", domain: str = NEW) -> None:
        _, listener = secure_mesh.callee(self.inbound_port, self.upstream.port)
        chain = listener["filter_chains"][0]
        chain["transport_socket"]["typed_config"]["common_tls_context"] = _common(
            *[{"prefix": f"spiffe://{one}/"} for one in MESH]
        )
        manager = chain["filters"][0]["typed_config"]
        manager["http_filters"].insert(0, _policy(*[identity(one, "front") for one in MESH]))
        service = {**secure_mesh.callee(self.inbound_port, self.upstream.port)[0]}
        self._start(f"callee-{domain}", identity(domain, account), domain, [listener], [service])

    def caller(self, domain: str, account: str = "front") -> int:
        """A sidecar of this trust domain; its port."""
        port = self._ports.take()
        cluster, listener = secure_mesh.caller(port, self.inbound_port)
        for match in cluster["transport_socket_matches"][:1]:
            names = [{"exact": identity(one, "catalog")} for one in MESH]
            match["transport_socket"]["typed_config"]["common_tls_context"] = _common(*names)
        self._start(f"{account}-{domain}", identity(domain, account), domain, [listener], [cluster])
        return port

    def _start(self, name: str, who: str, domain: str, listeners: list[Any], clusters: list[Any]) -> None:
        folder = self._folder / name
        folder.mkdir()
        (folder / "token").write_text(who)
        static = {"listeners": [_plain(one) for one in listeners], "clusters": [_plain(one) for one in clusters]}
        admin = {"address": secure_mesh.address(self._ports.take())}
        environment = {
            "MOSN_XDS_IDENTITY": "ca",
            "CA_ADDR": f"127.0.0.1:{self._istiod.port}",
            "CA_ROOT_CA": str(self._folder / "root.pem"),
            "CA_TOKEN_PATH": str(folder / "token"),
            "TRUST_DOMAIN": domain,
            "POD_NAMESPACE": "shop",
            "SERVICE_ACCOUNT": name.partition("-")[0],
        }
        node = {"id": name, "cluster": name}
        bootstrap = {"node": node, "admin": admin, "static_resources": static}
        proxy = Proxy.start(ProxyKind.OURS, bootstrap, folder, concurrency=1, environment=environment)
        self._stack.callback(proxy.kill)


def _plain(resource: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != "@type"}


def _common(*peers: dict[str, Any]) -> dict[str, Any]:
    common = secure_mesh.common_tls(peers[0], ["http/1.1"])
    default = common["combined_validation_context"]["default_validation_context"]
    default["match_typed_subject_alt_names"] = [{"san_type": "URI", "matcher": peer} for peer in peers]
    return common


def _policy(*principals: str) -> dict[str, Any]:
    allowed = [{"authenticated": {"principal_name": {"exact": one}}} for one in principals]
    rules = {"action": "ALLOW", "policies": {"fronts": {"permissions": [{"any": True}], "principals": allowed}}}
    config = {"@type": f"{_EXTENSIONS}.filters.http.rbac.v3.RBAC", "rules": rules}
    return {"name": "envoy.filters.http.rbac", "typed_config": config}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with ExitStack() as stack:
        made = Mesh(tmp_path_factory.mktemp("domains"), stack)
        made.callee()
        yield made


def ask(port: int) -> int:
    """The status of a request through the sidecar on `port`."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("domain", MESH)
def test_workloads_of_the_trust_domain_and_of_its_alias_are_let_in(mesh: Mesh, domain: str) -> None:
    before = len(mesh.upstream.requests)
    assert ask(mesh.caller(domain)) == 200
    (seen,) = mesh.upstream.requests[before:]
    assert f"URI={identity(domain, 'front')}" in (seen.get("x-forwarded-client-cert") or "")


def test_a_workload_of_another_trust_domain_is_refused_by_tls(mesh: Mesh) -> None:
    """By the same authority, under the same name but for the domain."""
    assert ask(mesh.caller(OTHER)) == 503


def test_another_workload_of_an_alias_is_refused_by_the_policy(mesh: Mesh) -> None:
    assert ask(mesh.caller(ALIAS, "guest")) == 403


@pytest.mark.parametrize(("domain", "status"), [(ALIAS, 200), (OTHER, 503)])
def test_an_upstream_is_known_under_its_alias_and_under_no_other(tmp_path: Path, domain: str, status: int) -> None:
    with ExitStack() as stack:
        mesh = Mesh(tmp_path, stack)
        mesh.callee(domain=domain)
        assert ask(mesh.caller(NEW)) == status
