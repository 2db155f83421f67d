"""Names to addresses for STRICT_DNS and LOGICAL_DNS clusters, in the agent: workers never resolve.

`Resolver` answers one question, as the machine's own resolver would: literal addresses, /etc/hosts, then DNS with the
search list of resolv.conf; both files are read again when they change. dnspython asks over trio, because getaddrinfo
knows no TTL and blocks a thread. `watch_name` asks again and again, at the rate that a cluster configures.

A name that does not exist, or has no address of the family, is an answer: an empty one. Only a server that fails or does
not reply is a failure. The difference matters: an empty answer takes a STRICT_DNS cluster's hosts away, a failure does
not (Envoy's c-ares resolver, `accept_nodata`).
"""

import io
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver
import trio

from mosn_xds.base.chance import Random
from mosn_xds.base.file_mark import FileMark, file_mark
from mosn_xds.control.backoff import BackOff
from mosn_xds.control.translate.model import DnsDiscovery, DnsFamily

ATTEMPT_S = 2.0
LIFETIME_S = 10.0
"""For one server, and for a question with all servers and search domains."""


@dataclass(frozen=True, slots=True)
class Address:
    """A literal IP address; `ttl_s` None if it does not come from DNS."""

    host: str
    ttl_s: float | None = None


class ResolutionError(Exception):
    """No answer: the servers failed, refused or were silent."""


class Lookup(Protocol):
    """What `watch_name` needs of a resolver."""

    async def resolve(self, name: str, family: DnsFamily) -> Sequence[Address]: ...


class Resolver:
    """See the module. `servers` and `port` replace those of resolv.conf."""

    def __init__(
        self,
        *,
        servers: Sequence[str] = (),
        port: int = 53,
        hosts_path: str = "/etc/hosts",
        resolv_conf_path: str = "/etc/resolv.conf",
    ) -> None:
        self._servers = list(servers)
        self._port = port
        self._hosts = _Cached(hosts_path, _parse_hosts)
        self._configuration = _Cached(resolv_conf_path, self._configure)

    def __repr__(self) -> str:
        return f"<Resolver {', '.join(self._servers) or self._configuration.path}>"

    async def resolve(self, name: str, family: DnsFamily) -> list[Address]:
        """Addresses in the order of the answer, without duplicates; empty if there is none. Raises ResolutionError."""
        literal = _literal(name)
        if literal is not None:
            return [Address(literal)]
        v4_first = family in (DnsFamily.V4_ONLY, DnsFamily.V4_PREFERRED, DnsFamily.ALL)
        first, second = ("A", "AAAA") if v4_first else ("AAAA", "A")
        if family in (DnsFamily.V4_ONLY, DnsFamily.V6_ONLY):
            return await self._ask(name, first)
        if family is DnsFamily.ALL:
            return await self._ask_both(name)
        try:
            found = await self._ask(name, first)
        except ResolutionError:
            found = []
        return found or await self._ask(name, second)

    async def _ask_both(self, name: str) -> list[Address]:
        answers: dict[str, list[Address]] = {}
        errors: list[ResolutionError] = []

        async def ask(record_type: str) -> None:
            try:
                answers[record_type] = await self._ask(name, record_type)
            except ResolutionError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "A")
            nursery.start_soon(ask, "AAAA")
        found = [*answers.get("A", ()), *answers.get("AAAA", ())]
        if errors and not found:  # half an answer is an answer only if it holds something
            raise errors[0]
        return found

    async def _ask(self, name: str, record_type: str) -> list[Address]:
        known = self._hosts.value().get(name.rstrip(".").lower())
        if known is not None:
            return [Address(host) for host in known if (":" in host) == (record_type == "AAAA")]
        try:
            answer = await self._configuration.value().resolve(
                dns.name.from_text(name, None), record_type, search=not name.endswith("."), lifetime=LIFETIME_S
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise ResolutionError(f"{name}: {error}") from None
        ttl_s = float(answer.chaining_result.minimum_ttl)
        return [Address(host, ttl_s) for host in dict.fromkeys(record.address for record in answer)]

    def _configure(self, content: str) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.port = self._port
        try:
            resolver.read_resolv_conf(io.StringIO(content))
        except (dns.resolver.NoResolverConfiguration, ValueError):
            pass  # names no server that can be used: the one of this machine is asked, as by any resolver
        resolver.nameservers = self._servers or resolver.nameservers or ["127.0.0.1"]
        resolver.timeout = ATTEMPT_S
        return resolver


async def watch_name(
    name: str,
    discovery: DnsDiscovery,
    lookup: Lookup,
    random: Random,
    report: Callable[[Sequence[Address] | ResolutionError], None],
) -> None:
    """Resolve `name` until cancelled, at the rates of `discovery`, and report every outcome, changed or not."""
    failures = None
    if discovery.failure_base_s is not None:
        max_s = discovery.failure_max_s if discovery.failure_max_s is not None else 10 * discovery.failure_base_s
        failures = BackOff(random, discovery.failure_base_s, max_s)
    while True:
        try:
            found = await lookup.resolve(name, discovery.family)
        except ResolutionError as error:
            report(error)
            await trio.sleep(failures.next_s() if failures is not None else discovery.refresh_s)
            continue
        report(found)
        if failures is not None:
            failures.reset()
        wait_s = discovery.refresh_s
        if discovery.respect_ttl:
            wait_s = min((address.ttl_s for address in found if address.ttl_s), default=wait_s)
        await trio.sleep(wait_s + random.random() * discovery.jitter_s)


T = TypeVar("T")


class _Cached(Generic[T]):
    """What a file says, parsed again when the file changed; a missing file is an empty one."""

    def __init__(self, path: str, parse: Callable[[str], T]) -> None:
        self.path = path
        self._parse = parse
        self._mark: FileMark | None = None
        self._value: T | None = None

    def value(self) -> T:
        mark = file_mark(self.path)
        if self._value is None or mark != self._mark:
            self._mark = mark
            self._value = self._parse(self._read())
        return self._value

    def _read(self) -> str:
        try:
            return Path(self.path).read_text("utf-8", "replace")
        except OSError:
            return ""


def _parse_hosts(content: str) -> dict[str, list[str]]:
    """hosts(5), with localhost as RFC 6761 wants it where the file has none."""
    hosts: dict[str, list[str]] = {}
    for line in content.splitlines():
        words = line.partition("#")[0].split()
        literal = _literal(words[0]) if words else None
        if literal is not None:
            for name in words[1:]:
                addresses = hosts.setdefault(name.lower(), [])
                if literal not in addresses:
                    addresses.append(literal)
    hosts.setdefault("localhost", ["127.0.0.1", "::1"])
    return hosts


def _literal(name: str) -> str | None:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return None
