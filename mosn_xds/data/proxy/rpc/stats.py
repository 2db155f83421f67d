"""Statistics of an RPC proxy: those of Envoy's generic_proxy, and what it keeps to itself."""

from mosn_xds.base.stats import Histogram, StatGroup
from mosn_xds.data.proxy.stats import HttpStats

_COUNTERS = (
    "downstream_cx_total",
    "downstream_cx_destroy",
    "downstream_cx_destroy_local",
    "downstream_cx_destroy_remote",
    "downstream_cx_destroy_active_rq",
    "downstream_cx_idle_timeout",
    "downstream_cx_drain_close",
    "downstream_cx_protocol_error",
    "downstream_cx_rx_bytes_total",
    "downstream_cx_tx_bytes_total",
    "downstream_rq_total",
    "downstream_rq_rx_reset",
    "downstream_rq_2xx",
    "downstream_rq_4xx",
    "downstream_rq_5xx",
)
_OWN = (
    "downstream_cx_overflow",
    "downstream_rq_error",
    "downstream_rq_local",
    "downstream_rq_reset",
    "downstream_rq_decoding_error",
    "downstream_rq_edit_ignored",
    "downstream_rq_oneway",
    "downstream_heartbeat",
    "protocol_exceptions",
)
_MOST_CODES = 300


class MethodStats(StatGroup):
    """The calls of one method. `rq_error`: answered with a status that is no success, or not at all; `rq_time` in ms."""

    COUNTERS = ("rq_total", "rq_error")
    HISTOGRAMS = ("rq_time",)
    __slots__ = (*COUNTERS, *HISTOGRAMS)

    rq_total: int
    rq_error: int
    rq_time: Histogram


class RpcStats(HttpStats):
    """``generic_proxy.NAME.`` and the like. What streams of any protocol count is there; only the names here are shown."""

    COUNTERS = (*_COUNTERS, *_OWN)
    GAUGES = ("downstream_cx_active", "downstream_rq_active")
    HISTOGRAMS = ("downstream_cx_length_ms", "downstream_rq_time")
    __slots__ = (*_OWN, "codes", "methods", "other_methods")

    downstream_cx_overflow: int
    downstream_rq_error: int
    downstream_rq_local: int
    downstream_rq_reset: int
    downstream_rq_decoding_error: int
    downstream_rq_edit_ignored: int
    downstream_rq_oneway: int
    downstream_heartbeat: int
    protocol_exceptions: int

    def __init__(self, prefix: str) -> None:
        for name in (*HttpStats.COUNTERS, *HttpStats.GAUGES):
            setattr(self, name, 0)
        self.codes: dict[int, int] = {}
        """Answers by the protocol's own status, 0 for none; shown as ``downstream_rq_code.STATUS``."""
        self.methods: dict[tuple[str, bytes, bytes], MethodStats] = {}
        """Those that are told apart, by protocol, service and name: for as long as any proxy of this prefix is there."""
        self.other_methods: dict[str, MethodStats] = {}
        """All the others of a protocol."""
        super().__init__(prefix)

    def count_code(self, code: int) -> None:
        """Count an answer of a status that is not in `codes` yet."""
        if len(self.codes) < _MOST_CODES:
            self.codes[code] = 1
        else:
            self.count("downstream_rq_code.other")

    def settle(self) -> None:
        for code, answers in self.codes.items():
            self.extra[f"downstream_rq_code.{code}"] = answers
