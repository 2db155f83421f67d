"""Load balancing: the policy of a cluster, from `lb_policy` with its config or from `load_balancing_policy`."""

from mosn_xds.control.translate.common import take_runtime_number
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.cluster import (
    Balancing,
    ClusterProvided,
    LeastRequest,
    Maglev,
    RandomChoice,
    RingHash,
    RoundRobin,
)

_Typed = tuple[Balancing, bool]
"""A policy, and whether localities are weighed."""


def take_balancing(take: Take, context: Context, common: Take | None) -> tuple[Balancing, bool]:
    """The policy of the cluster `take`, and whether localities are weighed; `common` is its common_lb_config."""
    policy = take.integer("lb_policy")
    typed = take.child("load_balancing_policy")
    if typed is not None:
        return _take_typed(typed, context, take.message.name)
    weighted = common is not None and common.child("locality_weighted_lb_config") is not None
    return _take_by_enum(policy, take, context, common), weighted


def _take_by_enum(policy: int, take: Take, context: Context, common: Take | None) -> Balancing:
    match policy:
        case 0:  # ROUND_ROBIN
            return _read_round_robin(take.child("round_robin_lb_config"), context)
        case 1:  # LEAST_REQUEST
            return _read_least_request(take.child("least_request_lb_config"), context)
        case 2:  # RING_HASH
            hashing = None if common is None else common.child("consistent_hashing_lb_config")
            return _read_ring_hash(take.child("ring_hash_lb_config"), hashing)
        case 3:  # RANDOM
            return RandomChoice()
        case 5:  # MAGLEV
            hashing = None if common is None else common.child("consistent_hashing_lb_config")
            return _read_maglev(take.child("maglev_lb_config"), hashing)
        case 6:  # CLUSTER_PROVIDED
            return ClusterProvided()
        case _:
            raise take.error(
                "load_balancing_policy",
                "cluster: field load_balancing_policy need to be set",
            )


def _take_typed(take: Take, context: Context, cluster: str) -> _Typed:
    names = []
    policies = take.children("policies")
    for number, policy in enumerate(policies):
        extension = policy.child("typed_extension_config")
        if extension is None:
            continue
        name = extension.text("name")
        names.append(name)
        found = context.extension(extension, "typed_config", Category.LOAD_BALANCER, name)
        if found.value is not None:
            for later in policies[number + 1 :]:  # the first one that is known counts, as in Envoy
                later.left.clear()
            typed: _Typed = found.value
            return typed
        extension.ignore("", f"no load balancer of type {found.type_name} is known")
    raise take.error(
        "policies",
        f"cluster: didn't find a registered load balancer factory implementation for cluster: '{cluster}' with names "
        f"from [{', '.join(names)}]",
    )


def _read_slow_start(take: Take | None, context: Context) -> tuple[float | None, float, float]:
    """Window, aggression and least weight percentage."""
    slow = None if take is None else take.child("slow_start_config")
    if slow is None:
        return None, 1.0, 10.0
    window_s = slow.duration("slow_start_window")
    aggression = take_runtime_number(slow.child("aggression"), context)
    percent = slow.wrapped_number("min_weight_percent")
    return window_s or None, 1.0 if aggression is None else aggression, 10.0 if percent is None else percent


def _read_round_robin(take: Take | None, context: Context) -> RoundRobin:
    return RoundRobin(*_read_slow_start(take, context))


def _read_least_request(take: Take | None, context: Context) -> LeastRequest:
    choices = None if take is None else take.wrapped_integer("choice_count")
    bias = None if take is None else take_runtime_number(take.child("active_request_bias"), context)
    full_scan = False
    if take is not None and "selection_method" in take.message.DESCRIPTOR.fields_by_name:
        full_scan = take.integer("selection_method") == 1
        if take.wrapped_flag("enable_full_scan"):
            full_scan = True
    window_s, aggression, percent = _read_slow_start(take, context)
    return LeastRequest(
        2 if choices is None else choices, 1.0 if bias is None else bias, full_scan, window_s, aggression, percent
    )


def _read_hashing(take: Take | None) -> tuple[bool, int]:
    if take is None:
        return False, 0
    return take.flag("use_hostname_for_hashing"), take.wrapped_integer("hash_balance_factor") or 0


def _read_ring_hash(take: Take | None, hashing: Take | None) -> RingHash:
    use_hostname, factor = _read_hashing(hashing)
    if take is None:
        return RingHash(use_hostname=use_hostname, hash_balance_factor=factor)
    least = take.wrapped_integer("minimum_ring_size")
    most = take.wrapped_integer("maximum_ring_size")
    low, high = 1024 if least is None else least, (8 << 20) if most is None else most
    if low > high:
        raise take.error("minimum_ring_size", f"ring hash: minimum_ring_size ({low}) > maximum_ring_size ({high})")
    murmur = take.integer("hash_function") == (_TYPED_MURMUR if _is_typed(take) else _MURMUR)
    return RingHash(low, high, murmur, use_hostname, factor)


_MURMUR, _TYPED_MURMUR = 1, 2


def _is_typed(take: Take) -> bool:
    package: str = take.message.DESCRIPTOR.full_name
    return package.startswith("envoy.extensions.")


def _read_maglev(take: Take | None, hashing: Take | None) -> Maglev:
    use_hostname, factor = _read_hashing(hashing)
    size = None if take is None else take.wrapped_integer("table_size")
    if size is None:
        return Maglev(use_hostname=use_hostname, hash_balance_factor=factor)
    if take is not None and not _is_prime(size):
        raise take.error("table_size", "The table size of maglev must be prime number")
    return Maglev(size, use_hostname, factor)


def _is_prime(number: int) -> bool:
    if number < 2:
        return False
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


# --- typed_config of `load_balancing_policy` ------------------------------------------------------------------------


def round_robin(take: Take, context: Context, name: str) -> _Typed:
    """envoy.load_balancing_policies.round_robin."""
    return _read_round_robin(take, context), _weighs_localities(take)


def least_request(take: Take, context: Context, name: str) -> _Typed:
    """envoy.load_balancing_policies.least_request."""
    return _read_least_request(take, context), _weighs_localities(take)


def random_choice(take: Take, context: Context, name: str) -> _Typed:
    """envoy.load_balancing_policies.random."""
    return RandomChoice(), _weighs_localities(take)


def ring_hash(take: Take, context: Context, name: str) -> _Typed:
    """envoy.load_balancing_policies.ring_hash."""
    return _read_ring_hash(take, _typed_hashing(take)), take.child("locality_weighted_lb_config") is not None


def maglev(take: Take, context: Context, name: str) -> _Typed:
    """envoy.load_balancing_policies.maglev."""
    return _read_maglev(take, _typed_hashing(take)), take.child("locality_weighted_lb_config") is not None


def cluster_provided(take: Take, context: Context, name: str) -> _Typed:
    """envoy.load_balancing_policies.cluster_provided."""
    return ClusterProvided(), False


def _weighs_localities(take: Take) -> bool:
    config = take.child("locality_lb_config")
    return config is not None and config.child("locality_weighted_lb_config") is not None


def _typed_hashing(take: Take) -> Take | None:
    return take.child("consistent_hashing_lb_config")
