"""What a translation takes and gives: the node and options going in, the Spec and what follows from it coming out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any

import msgspec

from mosn_xds.base.clock import Clock, SystemClock
from mosn_xds.spec.cluster import Cluster, Endpoint, Endpoints, Locality
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.route import RouteTable
from mosn_xds.spec.rpc import RpcRouteTable
from mosn_xds.spec.snapshot import digest, encode
from mosn_xds.spec.tls import Secret

Spec = Cluster | Endpoints | RouteTable | RpcRouteTable | Listener | Secret

DEFAULT_FETCH_TIMEOUT_S = 15.0
REGEX_PROGRAM_SIZE_LIMIT = 100
"""RE2 instructions; Envoy's ``re2.max_program_size.error_level`` when the runtime does not set it."""


@dataclass(frozen=True, slots=True)
class NodeContext:
    """Whom the configuration is for: the bootstrap's `node`."""

    id: str = ""
    cluster: str = ""
    region: str = ""
    zone: str = ""
    sub_zone: str = ""
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Options:
    """How to translate.

    `static`: for the bootstrap's own resources, which are not `added_via_api`. `reject_unknown_fields`: fields that our
    protos do not have are an error instead of a warning (Envoy's default for static resources, not for dynamic ones).
    `runtime`: values of the static runtime layers, flattened. `known_clusters`: all clusters that there will ever be, for
    the check of inline routes that Envoy makes by default; None: not known. `secrets`: the bootstrap's own, by name; several
    of one name are of different kinds. `clock`: what certificates are too old for.
    """

    static: bool = False
    reject_unknown_fields: bool = False
    runtime: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    known_clusters: frozenset[str] | None = None
    secrets: tuple[Secret, ...] = ()
    clock: Clock = field(default_factory=SystemClock)


class SourceKind(Enum):
    """envoy.config.core.v3.ConfigSource."""

    ADS = "ads"
    GRPC = "grpc"
    DELTA_GRPC = "delta_grpc"
    PATH = "path"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a resource comes from: the ADS stream, a gRPC service behind `cluster`, or a watched file at `path`."""

    kind: SourceKind = SourceKind.ADS
    cluster: str = ""
    path: str = ""
    node_on_first_message_only: bool = False

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.cluster or self.path}" if self.cluster or self.path else self.kind.value


ADS = Source()


class SecretKind(Enum):
    """What a secret is used for; the value says it in texts."""

    CERTIFICATE = "certificate"
    VALIDATION = "validation context"
    TICKET_KEYS = "session ticket keys"


def secret_name(source: str, name: str) -> str:
    """How a worker knows the secret `name` of a config source: ``grpc:sds-grpc/default``."""
    return f"{source}/{name}"


STATIC_SECRETS = "static"
"""The config source, as it were, of the bootstrap's own secrets."""


@dataclass(frozen=True, slots=True)
class Need:
    """A resource that another one waits for. `initial_fetch_timeout_s` 0: for ever. `secret` is what it must be, for a
    secret."""

    type_url: str
    name: str
    source: Source = ADS
    initial_fetch_timeout_s: float = DEFAULT_FETCH_TIMEOUT_S
    secret: SecretKind | None = None


class DnsFamily(IntEnum):
    """envoy.config.cluster.v3.Cluster.DnsLookupFamily, same numbers."""

    AUTO = 0
    """IPv6 if there is any, else IPv4."""
    V4_ONLY = 1
    V6_ONLY = 2
    V4_PREFERRED = 3
    ALL = 4


@dataclass(frozen=True, slots=True)
class DnsHost:
    """A name to resolve: each address found becomes `template` with that address."""

    hostname: str
    port: int
    template: Endpoint


@dataclass(frozen=True, slots=True)
class DnsLocality:
    """Names to resolve that share a place and a priority."""

    region: str
    zone: str
    sub_zone: str
    priority: int
    weight: int | None
    hosts: tuple[DnsHost, ...]

    def resolved(self, endpoints: Sequence[Endpoint]) -> Locality:
        """The locality with these endpoints."""
        return make_locality(self.region, self.zone, self.sub_zone, self.priority, self.weight, endpoints)


@dataclass(frozen=True, slots=True)
class DnsDiscovery:
    """How a STRICT_DNS or LOGICAL_DNS cluster finds its endpoints.

    `logical`: only the first address counts, and a changed one does not remove hosts in use. `respect_ttl`: the answer's
    TTL replaces `refresh_s`. After a failure the next try comes after a random time up to a bound that doubles from
    `failure_base_s` to `failure_max_s`; both None: after `refresh_s`. `jitter_s` is a random addition to each wait.
    """

    localities: tuple[DnsLocality, ...]
    logical: bool = False
    refresh_s: float = 5.0
    respect_ttl: bool = False
    failure_base_s: float | None = None
    failure_max_s: float | None = None
    jitter_s: float = 0.0
    family: DnsFamily = DnsFamily.AUTO
    overprovisioning_factor: int | None = None


@dataclass(frozen=True, slots=True)
class Translated:
    """One resource as this proxy understands it.

    `extra` are Specs that came inside it (the inline endpoints of a STATIC cluster, inline certificates). `needs` are
    resources that it waits for. `clusters` are those that its routes and proxies name. `files` were read for it. `unread`
    are the paths of fields that are set and have no effect here, some with the reason in parentheses; `warnings` start with
    a path, too.
    """

    name: str
    spec: Spec
    extra: tuple[Endpoints | Secret, ...] = ()
    dns: DnsDiscovery | None = None
    needs: tuple[Need, ...] = ()
    clusters: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Translated {type(self.spec).__name__} {self.name!r} {len(self.unread)} unread>"


def make_locality(
    region: str, zone: str, sub_zone: str, priority: int, weight: int | None, endpoints: Sequence[Endpoint]
) -> Locality:
    """A locality with its endpoints encoded and digested."""
    raw = encode(tuple(endpoints))
    return Locality(digest(raw), region, zone, sub_zone, priority, weight, msgspec.Raw(raw))
