"""The workload's secrets `default` and `ROOTCA`, from an authority or from files, as a config source inside of the process.

`Identity` stands where a bootstrap under pilot-agent has the cluster `sds-grpc`: who names a secret of that source
subscribes here, and what there is goes through the same judge as anything from a server. Names that pilot-agent answers
are answered alike: ``default``, ``ROOTCA``, ``file-cert:CERT~KEY``, ``file-root:PATH``, ``file-root:system``. Secrets of
files only name them; whoever watches the files of secrets sees them change.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import trio
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from mosn_xds.base.chance import Random
from mosn_xds.base.clock import Clock
from mosn_xds.base.stats import StatGroup, StatRegistry
from mosn_xds.control.ads.client import Judge
from mosn_xds.control.ads.events import Resource, Response
from mosn_xds.control.ads.resource_types import SDS, ResourceType
from mosn_xds.control.identity.ca_client import CaClient, CaError
from mosn_xds.control.identity.output import write_copies
from mosn_xds.control.identity.request import make_request
from mosn_xds.control.identity.rotation import Rotation
from mosn_xds.control.identity.settings import CaSettings, IdentitySettings
from mosn_xds.control.translate.certificates import BadMaterial, expires_at, load_authorities, load_certificate
from mosn_xds.spec.tls import Certificate
from mosn_xds.xds.ca import SigningRequest

CERTIFICATE, ROOTS = "default", "ROOTCA"
_FILE_CERTIFICATE, _FILE_ROOTS, _SYSTEM = "file-cert:", "file-root:", "file-root:system"

_log = logging.getLogger("mosn_xds.identity")


class IdentityStats(StatGroup):
    """``identity.``: requests to the authority; `expires_at_s` is when the certificate in use ends, wall-clock."""

    COUNTERS = ("csr_failure", "csr_success")
    GAUGES = ("expires_at_s",)
    __slots__ = (*COUNTERS, *GAUGES)
    csr_failure: int
    csr_success: int
    expires_at_s: int


class Identity:
    """See the module. `ca` is needed where `settings` say one."""

    def __init__(
        self,
        settings: IdentitySettings,
        clock: Clock,
        random: Random,
        stats: StatRegistry,
        *,
        ca: CaClient | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._random = random
        self._ca = ca
        self._stats = stats.group(IdentityStats, "identity.")
        self._sources: list[_Source] = []
        self._news = trio.Event()
        self._certificate: Certificate | None = None
        self._roots = b""
        self._generation = 0
        self.last_error = ""
        """Why the last request failed; empty after a success."""

    def __repr__(self) -> str:
        state = "has a certificate" if self._certificate is not None or self._settings.files else "has none yet"
        return f"<Identity {state}{', ' + self.last_error if self.last_error else ''}>"

    def subscriber(self, source: str, judge: Judge) -> "_Source":
        """Who takes names of `source` from now on, and hands what there is for them to `judge`."""
        found = _Source(source, judge, self._wake)
        self._sources.append(found)
        return found

    async def run(self) -> None:
        """Serve, and keep the certificate fresh, until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._settings.ca is not None and self._ca is not None:
                nursery.start_soon(self._renew, self._settings.ca, self._ca)
            while True:
                news = self._news
                for source in self._sources:
                    await self._tell(source)
                await news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    # --- what is served ---------------------------------------------------------------------------------------------

    async def _tell(self, source: "_Source") -> None:
        for name in list(source.wanted):
            raw = self.secret(name)
            if raw is None or source.told.get(name) == raw:
                continue
            source.told[name] = raw
            version = str(self._generation)
            response = Response(SDS, version, "", (Resource(name, version, raw, SDS.url),))
            verdict = await source.judge(source.name, response)
            if verdict.reason is not None:
                _log.warning("secret %s is refused: %s", name, verdict.reason)

    def secret(self, name: str) -> bytes | None:
        """The Secret of this name, serialised; None if there is none (yet)."""
        secret: Any = secret_pb2.Secret(name=name)
        if not self._fill(secret, name):
            return None
        return bytes(secret.SerializeToString(deterministic=True))

    def _fill(self, secret: Any, name: str) -> bool:
        files = self._settings.files
        if name == CERTIFICATE and files is not None:
            _certificate_files(secret, files[0], files[1])
        elif name == CERTIFICATE and self._certificate is not None:
            secret.tls_certificate.certificate_chain.inline_bytes = self._certificate.chain
            secret.tls_certificate.private_key.inline_bytes = self._certificate.key
        elif name == ROOTS and (files is not None or self._roots):
            if files is not None:
                secret.validation_context.trusted_ca.filename = files[2]
            else:
                secret.validation_context.trusted_ca.inline_bytes = self._roots
            if self._settings.crl_path:
                secret.validation_context.crl.filename = self._settings.crl_path
        elif name.startswith(_FILE_CERTIFICATE) and "~" in name:
            chain, _, key = name.removeprefix(_FILE_CERTIFICATE).partition("~")
            _certificate_files(secret, chain, key)
        elif name == _SYSTEM:
            secret.validation_context.system_root_certs.SetInParent()
        elif name.startswith(_FILE_ROOTS):
            secret.validation_context.trusted_ca.filename = name.removeprefix(_FILE_ROOTS)
        else:
            return False
        return True

    # --- the authority ----------------------------------------------------------------------------------------------

    async def _renew(self, settings: CaSettings, ca: CaClient) -> None:
        rotation = Rotation(self._random, settings.grace_ratio, settings.grace_jitter)
        while True:
            try:
                wait_s = rotation.after_success(await self._request(settings, ca))
            except CaError as error:
                self._stats.csr_failure += 1
                self.last_error = str(error)
                wait_s = rotation.after_failure()
                _log.warning("no certificate from %r: %s; next attempt in %.1f s", ca, error, wait_s)
            await trio.sleep(wait_s)

    async def _request(self, settings: CaSettings, ca: CaClient) -> float:
        """Get and serve a certificate; returns for how many seconds it is good. Raises CaError."""
        made = await trio.to_thread.run_sync(make_request, settings.identity, settings.key, settings.rsa_bits)
        chain = await ca.sign(SigningRequest(made.csr, int(settings.ttl_s)))
        now = self._clock.wall()
        text = "".join(part if part.endswith("\n") else f"{part}\n" for part in chain[:-1])
        try:
            certificate = load_certificate(
                text.encode(), made.key, None, now, chain_from="the answer", key_from="memory"
            )
            roots, _ = load_authorities(chain[-1].encode(), "the answer")
        except BadMaterial as error:
            raise CaError(f"{error.reason} {error.hint}".strip()) from None
        self._certificate, self._roots = certificate, roots
        self._generation += 1
        self._stats.csr_success += 1
        ends_at = expires_at(certificate)
        self._stats.expires_at_s = int(ends_at)
        self.last_error = ""
        _log.info("a certificate for %s, good for %.0f s", settings.identity, ends_at - now)
        if self._settings.output_dir:
            await trio.to_thread.run_sync(write_copies, self._settings.output_dir, certificate, roots)
        self._wake()
        return ends_at - now


def _certificate_files(secret: Any, chain: str, key: str) -> None:
    secret.tls_certificate.certificate_chain.filename = chain
    secret.tls_certificate.private_key.filename = key


class _Source:
    """The names that are wanted of one config source; a `needs.Subscriber`."""

    def __init__(self, name: str, judge: Judge, wake: Callable[[], None]) -> None:
        self.name = name
        self.judge = judge
        self.wanted: dict[str, None] = {}
        self.told: dict[str, bytes] = {}
        self._wake = wake

    def subscribe(self, kind: ResourceType) -> None:
        """Secrets are asked for by name."""

    def change(self, kind: ResourceType, add: Iterable[str], remove: Iterable[str]) -> None:
        for name in remove:
            self.wanted.pop(name, None)
            self.told.pop(name, None)
        self.wanted.update(dict.fromkeys(add))
        self._wake()

    def ask_again(self, kind: ResourceType) -> None:
        """What there is has been told."""
