"""What decides how a cluster's hosts are picked, beside the hosts."""

import msgspec

from mosn_xds.spec.cluster import Balancing, RoundRobin


class BalancerSettings(msgspec.Struct, frozen=True):
    """Equal settings make equal balancers: clusters share one value of them."""

    policy: Balancing = RoundRobin()
    panic_threshold_percent: float = 50.0
    overprovisioning_percent: int = 140
    locality_weighted: bool = False
