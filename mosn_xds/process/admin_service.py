"""The admin API of a running agent: what its pages see, and the HTTP server they are served by.

`RunningAgent` is the admin package's `AgentView` over the agent's parts; it copies what it gives away, so that a page built
in a thread sees one moment. Unread fields become gauges here too: ``xds.unread_fields`` and ``xds.refused_resources``.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import trio
from google.protobuf.message import Message
from hypercorn.config import Config
from hypercorn.trio import serve

from mosn_xds.admin.app import AdminApp
from mosn_xds.admin.config_dump import CLUSTER, ENDPOINTS, LISTENER, ROUTES, RPC_ROUTES, SECRET
from mosn_xds.admin.tags import TagExtractor
from mosn_xds.admin.view import ClusterView, RefusalView, ResourceView, StaticView, StreamView, Totals, WorkerView
from mosn_xds.base.log import Level, without_secrets
from mosn_xds.base.stats import StatGroup
from mosn_xds.control.bootstrap import Bootstrap
from mosn_xds.control.slots import origin
from mosn_xds.control.store import Record, ResourceKey
from mosn_xds.control.translate.model import Translated
from mosn_xds.process.agent import AgentProcess
from mosn_xds.process.configuration import Configuration
from mosn_xds.spec.cluster import Cluster, Endpoint, Endpoints
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.snapshot import SPEC_TYPES, Kind
from mosn_xds.spec.tls import Secret
from mosn_xds.xds.messages import message_class

_FOREVER = 2**31
_TYPES = {
    Kind.SECRET: SECRET,
    Kind.CLUSTER: CLUSTER,
    Kind.ENDPOINTS: ENDPOINTS,
    Kind.ROUTE_TABLE: ROUTES,
    Kind.RPC_ROUTE_TABLE: RPC_ROUTES[0],
    Kind.LISTENER: LISTENER,
}
_NETWORK = "envoy.extensions.filters.network"
_INLINE = {
    ROUTES: (f"{_NETWORK}.http_connection_manager.v3.HttpConnectionManager", "route_config"),
    RPC_ROUTES[0]: (f"{_NETWORK}.generic_proxy.v3.GenericProxy", "route_config"),
    RPC_ROUTES[1]: (f"{_NETWORK}.dubbo_proxy.v3.DubboProxy", "multiple_route_config"),
    RPC_ROUTES[2]: (f"{_NETWORK}.thrift_proxy.v3.ThriftProxy", "route_config"),
}
"""The network filter in which a route table of a type may stand, and where."""
_log = logging.getLogger("mosn_xds.admin")


class XdsStats(StatGroup):
    """``xds.``: what Envoy hides, as figures."""

    GAUGES = ("refused_by_workers", "refused_resources", "requested_resources", "unread_fields", "warming_resources")
    __slots__ = (*GAUGES, "_measure")
    refused_by_workers: int
    refused_resources: int
    requested_resources: int
    unread_fields: int
    warming_resources: int

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self._measure: RunningAgent | None = None

    def follow(self, agent: "RunningAgent") -> None:
        self._measure = agent

    def settle(self) -> None:
        if self._measure is not None:
            self._measure.measure(self)


class RunningAgent:
    """See the module; an `AgentView`."""

    def __init__(self, agent: AgentProcess, configuration: Configuration) -> None:
        self._agent = agent
        self._configuration = configuration
        self._bootstrap: Bootstrap = configuration.bootstrap
        self._decoders = {kind: msgspec.msgpack.Decoder(spec) for kind, spec in SPEC_TYPES.items()}
        self._decode_hosts = msgspec.msgpack.Decoder(tuple[Endpoint, ...])
        self.totals: Totals = agent.totals
        self._stats = agent.stats.group(XdsStats, "xds.")
        self._stats.follow(self)

    @property
    def state(self) -> str:
        return self._agent.state.name

    @property
    def started_at(self) -> float:
        return self._agent.started_wall_s

    @property
    def bootstrap(self) -> Message:
        return self._bootstrap.message

    @property
    def bootstrap_findings(self) -> tuple[Sequence[str], Sequence[str]]:
        return self._unread(), self._bootstrap.warnings

    def _unread(self) -> list[str]:
        unasked = self._bootstrap.runtime.unasked
        return [*self._bootstrap.unread, *(f"layered_runtime: {key} (nothing has asked for it)" for key in unasked)]

    @property
    def command_line(self) -> Mapping[str, Any]:
        """envoy.admin.v3.CommandLineOptions."""
        options = self._agent.options
        shown: dict[str, Any] = {
            "base_id": str(options.base_id),
            "concurrency": len(self._agent.supervisor.slots),
            "config_path": options.config_path,
            "config_yaml": without_secrets(options.config_yaml or ""),
            "allow_unknown_static_fields": options.allow_unknown_static_fields,
            "reject_unknown_dynamic_fields": options.reject_unknown_dynamic_fields,
            "ignore_unknown_dynamic_fields": options.ignore_unknown_dynamic_fields,
            "admin_address_path": options.admin_address_path,
            "local_address_ip_version": None if options.local_address_ip_version.value == "v4" else "v6",
            "component_log_level": options.component_log_level,
            "service_cluster": options.service_cluster,
            "service_node": options.service_node,
            "service_zone": options.service_zone,
            "drain_time": f"{options.drain_time_s:g}s",
            "drain_strategy": None if options.drain_strategy.name == "GRADUAL" else "Immediate",
            "parent_shutdown_time": f"{options.parent_shutdown_time_s:g}s",
            "file_flush_interval": f"{options.file_flush_interval_s:.3f}s",
            "disable_hot_restart": options.disable_hot_restart,
        }
        return {key: value for key, value in shown.items() if value}

    def static_resources(self, type_url: str) -> Iterable[StaticView]:
        bootstrap = self._bootstrap
        if type_url in (CLUSTER, LISTENER):
            resources = bootstrap.clusters if type_url == CLUSTER else bootstrap.listeners
            found = message_class(type_url)
            if found is not None:
                for one in resources:
                    yield StaticView(found.FromString(one.raw), one.translated.unread, one.translated.warnings)
        elif type_url == SECRET:
            message: Any = bootstrap.message
            for secret in message.static_resources.secrets:
                yield StaticView(secret)
        elif type_url in _INLINE:
            yield from self._inline_routes(*_INLINE[type_url])

    def _inline_routes(self, filter_type: str, field: str) -> Iterable[StaticView]:
        """Envoy shows the routes that stand inside listeners as static ones."""
        manager = message_class(filter_type)
        listener_type = message_class(LISTENER)
        if manager is None or listener_type is None:
            return
        raws = [one.raw for one in self._bootstrap.listeners]
        raws += [view.raw for view in self.resources(LISTENER) if view.raw is not None and not view.warming]
        for raw in raws:
            listener: Any = listener_type.FromString(raw)
            chains = list(listener.filter_chains)
            if listener.HasField("default_filter_chain"):
                chains.append(listener.default_filter_chain)
            for chain in chains:
                for network_filter in chain.filters:
                    if network_filter.typed_config.type_url.endswith(f"/{filter_type}"):
                        parsed: Any = manager.FromString(network_filter.typed_config.value)
                        if parsed.HasField(field):
                            yield StaticView(getattr(parsed, field))

    def resources(self, type_url: str | None = None) -> Iterable[ResourceView]:
        return _in_loop(partial(self._resources, type_url))

    def _resources(self, type_url: str | None) -> list[ResourceView]:
        store = self._configuration.discovery.store
        records = list(store if type_url is None else store.of_type(type_url))
        warming = self._warming()
        of_uses = self._configuration.table_uses.warnings
        return [
            _view(record, (record.key.type_url, record.key.name) in warming, of_uses.get(record.key, ()))
            for record in records
        ]

    def _warming(self) -> set[tuple[str, str]]:
        assembler = self._configuration.discovery.assembler
        found = {(CLUSTER, name) for name, slot in assembler.clusters.items() if slot.candidate is not None}
        found |= {(LISTENER, name) for name, slot in assembler.listeners.items() if slot.candidate is not None}
        found |= {(key.type_url, key.name) for key, slot in assembler.tables.items() if slot.candidate is not None}
        return found

    def draining_listeners(self) -> Iterable[tuple[str, bytes, float]]:
        removed = _in_loop(lambda: dict(self._configuration.removed_listeners))
        draining = {name for slot in self._agent.supervisor.slots for name in slot.draining}
        return [(name, raw, at) for name, (raw, at) in removed.items() if name in draining]

    def _specs(self, kind: Kind) -> Iterable[Any]:
        decode = self._decoders[kind].decode
        return [decode(item.raw) for item in self._agent.supervisor.published.items.values() if item.kind is kind]

    def clusters(self) -> Iterable[ClusterView]:
        endpoints: dict[str, Endpoints] = {one.name: one for one in self._specs(Kind.ENDPOINTS)}
        for spec in self._specs(Kind.CLUSTER):
            cluster: Cluster = spec
            found = endpoints.get(cluster.eds_name or cluster.name) or endpoints.get(cluster.name)
            localities = found.localities if found is not None else ()
            yield ClusterView(cluster, tuple((one, self._decode_hosts.decode(one.endpoints)) for one in localities))

    def listeners(self) -> Iterable[Listener]:
        return self._specs(Kind.LISTENER)

    def secrets(self) -> Iterable[Secret]:
        return self._specs(Kind.SECRET)

    @property
    def now(self) -> float:
        return self._agent.clock.wall()

    def host_figures(self, cluster: str, address: str) -> Mapping[str, int]:
        return self._agent.hosts.get(cluster, address)

    def workers(self) -> Iterable[WorkerView]:
        supervisor = self._agent.supervisor
        return [
            WorkerView(
                slot.number,
                slot.pid or None,
                slot.feed.held.generation if slot.feed is not None else 0,
                max(0, slot.starts - 1),
                slot.state.value,
            )
            for slot in supervisor.slots
        ]

    def worker_refusals(self) -> Iterable[RefusalView]:
        return [
            RefusalView(*self._origin(one.kind, one.name), one.reason, one.serving)
            for one in self._agent.supervisor.attainable.refusals.values()
        ]

    def _origin(self, kind: Kind, name: str) -> tuple[str, str]:
        """Type and name of the resource that became this: route tables of RPC proxies are of several types."""
        key = origin(self._configuration.discovery.assembler.tables, kind, name)
        return (_TYPES[kind], name) if key is None else (key.type_url, key.name)

    def streams(self) -> Iterable[StreamView]:
        return [
            StreamView(client.source, repr(client), client.connected, client.last_error)
            for client in self._configuration.discovery.clients
        ]

    def log_levels(self) -> Mapping[str, str]:
        return {name: level.text for name, level in self._agent.log.levels().items()}

    def set_log_level(self, logger: str | None, level: str) -> None:
        if not self._agent.set_log_level(Level.parse(level), logger or ""):
            raise ValueError(f"unknown logger name '{logger}'")

    def drain_listeners(self, *, inbound_only: bool, graceful: bool, skip_exit: bool) -> None:
        self._agent.drain_listeners(inbound_only=inbound_only, graceful=graceful, skip_exit=skip_exit)

    def set_health_failed(self, failed: bool) -> None:
        self._agent.set_health_failed(failed)

    def reopen_logs(self) -> None:
        self._agent.reopen_logs()

    async def obeyed(self) -> None:
        await self._agent.supervisor.obeyed()

    def quit(self) -> None:
        self._agent.shut_down()

    def measure(self, stats: XdsStats) -> None:
        """Bring the gauges up to date."""
        refused = requested = unread = 0
        for record in self._configuration.discovery.store:
            refused += record.refusal is not None
            requested += record.good is None and record.refusal is None
            unread += len(record.good.product.unread) if record.good is not None else 0
        stats.refused_by_workers = len(self._agent.supervisor.attainable.refusals)
        stats.refused_resources = refused
        stats.requested_resources = requested
        stats.unread_fields = unread + len(self._unread())  # its static resources included
        stats.warming_resources = len(self._warming())


T = TypeVar("T")


def _in_loop(look: Callable[[], T]) -> T:
    """What changes in the agent's loop is looked at there, also for a page that is built in a thread."""
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        found: T = trio.from_thread.run_sync(look)
        return found
    return look()


def _view(record: Record[Translated], warming: bool, of_uses: tuple[str, ...]) -> ResourceView:
    good, refusal = record.good, record.refusal
    key: ResourceKey = record.key
    return ResourceView(
        source=key.source,
        type_url=key.type_url,
        name=key.name,
        status=record.status.value,
        version=record.version,
        updated_at=record.updated_at,
        raw=good.raw if good is not None else None,
        good_version=good.version if good is not None else "",
        good_at=good.at if good is not None else None,
        warming=warming,
        refusal_reason=str(refusal) if refusal is not None else "",
        refusal_version=refusal.version if refusal is not None else "",
        refusal_at=refusal.at if refusal is not None else None,
        refusal_raw=refusal.raw if refusal is not None else None,
        unread=good.product.unread if good is not None else (),
        warnings=(*good.product.warnings, *of_uses) if good is not None else (),
        history=tuple((one.version, one.at, one.reason or "") for one in record.history),
    )


class AdminService:
    """Serves the admin API at the bootstrap's address until cancelled."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def __repr__(self) -> str:
        return f"admin at {self._configuration.bootstrap.admin.address}"

    async def __call__(self, agent: AgentProcess) -> None:
        bootstrap = self._configuration.bootstrap
        view = RunningAgent(agent, self._configuration)
        address = bootstrap.admin.address
        if address is None:
            return
        tags = TagExtractor(
            [(tag.name, tag.regex) for tag in bootstrap.stats.tags if tag.fixed_value is None],
            [(tag.name, tag.fixed_value) for tag in bootstrap.stats.tags if tag.fixed_value is not None],
        )
        app = AdminApp(view, agent.clock, tags)
        config = Config()
        config.bind = [f"unix:{address.host}" if address.is_pipe else str(address)]
        config.accesslog = None
        config.errorlog = None
        config.include_server_header = False
        config.graceful_timeout = config.shutdown_timeout = 1.0
        config.keep_alive_max_requests = _FOREVER
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(_serve, app, config)
            _log.info("admin address: %s", ", ".join(bound))
            path = agent.options.admin_address_path
            if path:
                await trio.Path(path).write_text(bound[0].removeprefix("http://"))


async def _serve(app: AdminApp, config: Config, *, task_status: trio.TaskStatus[list[str]]) -> None:
    await serve(app.app, config, task_status=task_status, mode="asgi")  # type: ignore[arg-type]
