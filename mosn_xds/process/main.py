"""Puts the agent together: from `Options` to an exit code. What `mosn-xds-proxy` and `mosn-xds run` call.

The order matters for start-up time: the spawner starts first, so that its imports overlap the agent's; then the heavy
imports (protobuf, grpc), with the environment that grpc reads while it is imported.
"""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mosn_xds.base.clock import SystemClock
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.log import LogControl
from mosn_xds.base.sockets import raise_descriptor_limit
from mosn_xds.base.stats import StatRegistry
from mosn_xds.process.cpus import default_concurrency
from mosn_xds.process.options import IpVersion, Mode, Options
from mosn_xds.process.spawner import set_process_name
from mosn_xds.process.spawner_link import SpawnerLink

if TYPE_CHECKING:
    from mosn_xds.control.bootstrap import Bootstrap

_log = logging.getLogger("mosn_xds.main")
_HTTP2_KEY = "MOSN_XDS_HTTP2"

_NICENESS = 3
"""The agent's, above that of the workers, whose spawner starts before: when the cores are busy, traffic comes first. While
10,000 clusters leave, the 99th percentile is then 2 times the quiet one, and was 8 to 20 times (`test_kills.py`). A spawner
that has to be started again is as nice as the agent: only who may set priorities could change that back.
"""


def run(options: Options) -> int:
    """The whole life of an agent; the exit code."""
    try:
        log = LogControl(options.log)
    except OSError as error:
        print(f"error: cannot open {options.log.path}: {error.strerror}", file=sys.stderr)
        return 1
    if options.ignored:
        _log.info("accepted without effect: %s", " ".join(options.ignored))
    raise_descriptor_limit()
    set_process_name("mosn-xds-proxy")
    if options.mode is Mode.VALIDATE:
        return _validate(options)
    spawner = SpawnerLink(options.engine, options.log)
    spawner.start()
    os.nice(_NICENESS)
    bootstrap = _load(options)
    return 1 if bootstrap is None else _serve(options, log, spawner, bootstrap)


def _load(options: Options) -> "Bootstrap | None":
    """The bootstrap; None when it is unusable, which has been said then."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from mosn_xds.control.bootstrap import NodeOverrides, load_bootstrap  # noqa: PLC0415

    try:
        return load_bootstrap(
            Path(options.config_path) if options.config_path else None,
            options.config_yaml or "",
            overrides=NodeOverrides(options.service_node, options.service_cluster, options.service_zone),
            allow_unknown_fields=options.allow_unknown_static_fields,
            universal_tags=options.stats_tags,
        )
    except ConfigError as error:
        _log.critical("error initializing configuration '%s': %s", options.config_path or "--config-yaml", error)
        return None


def _validate(options: Options) -> int:
    bootstrap = _load(options)
    if bootstrap is None:
        return 1
    for warning in bootstrap.warnings:
        _log.warning("%s", warning)
    print(f"configuration '{options.config_path or '--config-yaml'}' OK")
    return 0


def _serve(options: Options, log: LogControl, spawner: SpawnerLink, bootstrap: "Bootstrap") -> int:
    import trio  # noqa: PLC0415

    from mosn_xds.control.discovery import WORKLOAD_SECRETS  # noqa: PLC0415
    from mosn_xds.control.identity.settings import from_environment  # noqa: PLC0415
    from mosn_xds.process.admin_service import AdminService  # noqa: PLC0415
    from mosn_xds.process.agent import AgentProcess  # noqa: PLC0415
    from mosn_xds.process.configuration import Configuration  # noqa: PLC0415
    from mosn_xds.process.hosts import HostTotals  # noqa: PLC0415
    from mosn_xds.process.memory import Collector  # noqa: PLC0415
    from mosn_xds.process.supervise import Supervisor  # noqa: PLC0415
    from mosn_xds.process.totals import StatTotals  # noqa: PLC0415
    from mosn_xds.spec.feed import Configure, Http2Library  # noqa: PLC0415
    from mosn_xds.spec.histogram_buckets import HistogramBuckets  # noqa: PLC0415
    from mosn_xds.spec.stats_matcher import EVERYTHING, StatsMatcher  # noqa: PLC0415

    try:
        http2 = Http2Library(os.environ.get(_HTTP2_KEY, Http2Library.NGH2.value))
    except ValueError as error:
        _log.critical("%s: %s (one of %s)", _HTTP2_KEY, error, ", ".join(one.value for one in Http2Library))
        return 1
    try:
        identity = from_environment(os.environ, has_sds=WORKLOAD_SECRETS in bootstrap.targets)
    except ConfigError as error:
        _log.critical("the workload's identity cannot be had: %s", error)
        return 1
    for warning in bootstrap.warnings:
        _log.warning("%s", warning)
    if bootstrap.unread:
        _log.info("fields of the bootstrap without effect: %s", ", ".join(bootstrap.unread))
    stats = StatRegistry()
    patterns = bootstrap.stats.patterns
    matcher = StatsMatcher(patterns) if patterns != EVERYTHING else None
    buckets = HistogramBuckets(bootstrap.stats.buckets)
    totals = StatTotals(stats, matcher.allows if matcher is not None else None, buckets.bounds)
    configure = Configure(
        worker=0,
        concurrency=options.concurrency or default_concurrency(bootstrap.node.id),
        node_id=bootstrap.node.id,
        node_cluster=bootstrap.node.cluster,
        drain_time_s=options.drain_time_s,
        drain_strategy=options.drain_strategy,
        log_flush_interval_s=options.file_flush_interval_s,
        local_address_v6=options.local_address_ip_version is IpVersion.V6,
        histogram_buckets=bootstrap.stats.buckets,
        http2=http2,
    )
    supervisor = Supervisor(configure, spawner, totals, HostTotals())
    clock = SystemClock()
    agent = AgentProcess(options, log, spawner, supervisor, stats, clock=clock)
    configuration = Configuration(
        bootstrap,
        supervisor,
        stats,
        clock,
        reject_unknown_fields=options.reject_unknown_dynamic_fields,
        identity=identity,
    )
    return trio.run(agent.run, configuration, AdminService(configuration), Collector().run)
