"""What a bootstrap says, in our terms."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from google.protobuf.message import Message

from mosn_xds.control.ads.transport import GrpcTarget
from mosn_xds.control.bootstrap.runtime import Runtime
from mosn_xds.control.bootstrap.stats import StatsSettings
from mosn_xds.control.translate.model import NodeContext, Source, Translated
from mosn_xds.spec.common import Address
from mosn_xds.spec.tls import Secret


@dataclass(frozen=True, slots=True)
class XdsServer:
    """A gRPC service that serves resources (core.ApiConfigSource). `cluster` is empty for a target given in place."""

    target: GrpcTarget
    delta: bool
    node_on_first_message_only: bool = False
    cluster: str = ""
    retry_base_s: float = 0.5
    retry_max_s: float = 30.0


@dataclass(frozen=True, slots=True)
class DynamicRoot:
    """`lds_config` or `cds_config`: where all resources of a type come from. `server` is set unless that is ADS."""

    source: Source
    initial_fetch_timeout_s: float
    server: XdsServer | None = None


@dataclass(frozen=True, slots=True)
class StaticResource:
    """One of `static_resources`: as given, and translated."""

    type_url: str
    raw: bytes
    translated: Translated

    def __repr__(self) -> str:
        """Without its bytes, which may hold a private key."""
        return f"<StaticResource {self.translated!r}>"


@dataclass(frozen=True, slots=True)
class Admin:
    """`address` None: no admin server."""

    address: Address | None = None


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """See the module. `message` is the whole as protobuf, for `/config_dump`, private keys redacted. `unread` and
    `warnings` are about the whole file, its static resources included."""

    node: NodeContext
    node_message: Message
    message: Message
    clusters: tuple[StaticResource, ...] = ()
    listeners: tuple[StaticResource, ...] = ()
    secrets: tuple[Secret, ...] = ()
    """Several of one name are of different kinds."""
    ads: XdsServer | None = None
    lds: DynamicRoot | None = None
    cds: DynamicRoot | None = None
    admin: Admin = Admin()
    stats: StatsSettings = field(default_factory=StatsSettings)
    runtime: Runtime = field(default_factory=Runtime)
    targets: Mapping[str, GrpcTarget] = field(default_factory=lambda: MappingProxyType({}))
    """How gRPC reaches a static cluster, by its name, for those that have one endpoint to reach (``sds-grpc``)."""
    unread: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Bootstrap of {self.node.id or 'an unnamed node'}, {len(self.listeners)} static listeners>"
