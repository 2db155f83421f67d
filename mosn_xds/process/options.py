"""What the command line says, as one frozen value. It knows Envoy's flags by meaning, not how they are spelled."""

import re
from dataclasses import dataclass, field
from enum import Enum

from mosn_xds.base.log import LogSettings
from mosn_xds.spec.feed import DrainStrategy


class Mode(Enum):
    """`--mode`."""

    SERVE = "serve"
    VALIDATE = "validate"
    INIT_ONLY = "init_only"


class IpVersion(Enum):
    """`--local-address-ip-version`: which local address stands in for one that is not known."""

    V4 = "v4"
    V6 = "v6"


def parse_stats_tag(text: str) -> tuple[str, str]:
    """Name and value of a tag for all statistics, given as ``name:value``. Raises ValueError in Envoy's words."""
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"misformatted stats-tag '{text}'")
    for part, allowed in ((name, r"[a-zA-Z0-9]+"), (value, r"[^.]+")):
        if not re.fullmatch(allowed, part):
            raise ValueError(f"misformatted stats-tag '{text}' contains invalid char in '{part}'")
    return name, value


@dataclass(frozen=True)
class Options:
    """Envoy's command-line options; None is "not given". Times are in seconds.

    `log` is how the process and its workers log; `ignored` names the flags that were accepted without effect.
    `engine` names what a worker runs, as ``module:function`` (see `mosn_xds.process.worker`).
    """

    config_path: str | None = None
    config_yaml: str | None = None
    mode: Mode = Mode.SERVE
    concurrency: int | None = None
    base_id: int = 0
    log: LogSettings = field(default_factory=LogSettings)
    component_log_level: str = ""
    service_node: str = ""
    service_cluster: str = ""
    service_zone: str = ""
    drain_time_s: float = 600.0
    drain_strategy: DrainStrategy = DrainStrategy.GRADUAL
    stats_tags: tuple[tuple[str, str], ...] = ()
    """(name, value), on all statistics."""
    parent_shutdown_time_s: float = 900.0
    disable_hot_restart: bool = False
    local_address_ip_version: IpVersion = IpVersion.V4
    file_flush_interval_s: float = 10.0
    skip_deprecated_logs: bool = False
    allow_unknown_static_fields: bool = False
    reject_unknown_dynamic_fields: bool = False
    ignore_unknown_dynamic_fields: bool = False
    admin_address_path: str = ""
    ignored: tuple[str, ...] = ()
    engine: str = "mosn_xds.data.engine:Engine"

    @property
    def shutdown_limit_s(self) -> float:
        """How long SIGTERM waits for streams at most."""
        return min(self.drain_time_s, 25.0)
