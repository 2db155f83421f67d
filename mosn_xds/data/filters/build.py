"""From the Specs of a chain's HTTP filters to the filters themselves.

The router is not among them: the stream runs it last. Those that decide nothing here (Istio's metrics, the choice of ALPN
while there is no TLS) leave no object in the chain and cost nothing; the translation has reported them.
"""

from collections.abc import Sequence
from typing import Protocol

from mosn_xds.base.errors import ConfigError
from mosn_xds.base.limits import LimitProvider
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.filters.api import FilterContext, StreamFilter
from mosn_xds.data.filters.cors import CorsFilter, CorsStats
from mosn_xds.data.filters.extensions import ExtensionFilters
from mosn_xds.data.filters.fault import FaultFilter, FaultStats
from mosn_xds.data.filters.grpc_stats import GrpcStatsFilter
from mosn_xds.data.filters.grpc_web import GrpcWebFilter
from mosn_xds.data.filters.peer_metadata import PeerMetadataFilter
from mosn_xds.data.filters.rbac import RbacFilter
from mosn_xds.data.filters.unknown import RefusingFilter
from mosn_xds.spec import filters as spec


class Worker(Protocol):
    """What filters are built with, of the worker that they run in."""

    @property
    def stats(self) -> StatRegistry: ...

    @property
    def limits(self) -> LimitProvider: ...

    @property
    def extension_filters(self) -> ExtensionFilters: ...


def build_filters(filters: Sequence[spec.HttpFilter], context: FilterContext, worker: Worker) -> list[StreamFilter]:
    """The filters of one chain in order, those without an effect left out. Raises ConfigError with the filter's place."""
    built = []
    for position, entry in enumerate(filters):
        try:
            found = _build(entry.config, context, worker)
        except ConfigError as error:
            raise error.under(f"http_filters[{position}]") from None
        if found is not None:
            found.name = entry.name
            built.append(found)
    return built


def _build(config: spec.FilterConfig, context: FilterContext, worker: Worker) -> StreamFilter | None:
    prefix = context.stat_prefix
    match config:
        case spec.FaultFilter():
            stats = worker.stats.group(FaultStats, f"{prefix}fault.")
            return FaultFilter(config, stats, worker.limits.cell(f"fault|{prefix}"))
        case spec.CorsFilter():
            return CorsFilter(worker.stats.group(CorsStats, f"{prefix}cors."))
        case spec.RbacFilter():
            return RbacFilter(config, worker.stats, prefix)
        case spec.GrpcStatsFilter():
            return GrpcStatsFilter(config, worker.stats)
        case spec.GrpcWebFilter():
            return GrpcWebFilter()
        case spec.PeerMetadataFilter():
            return PeerMetadataFilter(config)
        case spec.ExtensionFilter():
            return worker.extension_filters.build(config, context)
        case spec.UnknownFilter():
            return RefusingFilter(config)
        case spec.RouterFilter() | spec.AlpnFilter() | spec.IstioStatsFilter():
            return None
