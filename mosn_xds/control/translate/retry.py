"""Retry policies (envoy.config.route.v3.RetryPolicy)."""

from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.matchers import take_header_matches
from mosn_xds.control.translate.registry import Category
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.route import RateLimitedBackOff, RetryBackOff, RetryPolicy

_SHORTEST_BACK_OFF_S = 0.001


def take_retry_policy(parent: Take, context: Context) -> RetryPolicy | None:
    """The field `retry_policy`; None when absent."""
    take = parent.child("retry_policy")
    if take is None:
        return None
    retries = take.wrapped_integer("num_retries")
    if take.has("retry_priority"):
        take.ignore("retry_priority", "retries go by the cluster's own priorities")
    return RetryPolicy(
        tuple([token.strip() for token in take.text("retry_on").split(",") if token.strip()]),
        1 if retries is None else retries,
        take.duration("per_try_timeout") or None,
        take.duration("per_try_idle_timeout") or None,
        _take_back_off(take),
        _take_rate_limited(take),
        take.integers("retriable_status_codes"),
        take_header_matches(take, "retriable_headers", context),
        take_header_matches(take, "retriable_request_headers", context),
        take_previous_hosts(take, context),
        take.integer("host_selection_retry_max_attempts") or 1,
    )


def _take_back_off(take: Take) -> RetryBackOff:
    back_off = take.child("retry_back_off")
    if back_off is None:
        return RetryBackOff()
    base_s = max(back_off.duration("base_interval") or 0.0, _SHORTEST_BACK_OFF_S)
    max_s = back_off.duration("max_interval")
    if max_s is not None:
        max_s = max(max_s, _SHORTEST_BACK_OFF_S)
        if max_s < base_s:
            raise back_off.error(
                "max_interval", "retry_policy.max_interval must greater than or equal to the base_interval"
            )
    return RetryBackOff(base_s, max_s)


def _take_rate_limited(take: Take) -> RateLimitedBackOff | None:
    limited = take.child("rate_limited_retry_back_off")
    if limited is None:
        return None
    headers = tuple(
        [(one.text("name").lower(), one.integer("format") == 1) for one in limited.children("reset_headers")]
    )
    max_s = limited.duration("max_interval")
    return RateLimitedBackOff(headers, 300.0 if max_s is None else max_s)


def take_previous_hosts(take: Take, context: Context) -> bool:
    """Whether `retry_host_predicate` asks for other hosts than those tried already."""
    found = False
    for predicate in take.children("retry_host_predicate"):
        name = predicate.text("name")
        extension = context.extension(predicate, "typed_config", Category.RETRY_HOST, name)
        if extension.value:
            found = True
        else:
            predicate.ignore("typed_config", "this predicate is not supported")
    return found


def previous_hosts(take: Take, context: Context, name: str) -> bool:
    """envoy.retry_host_predicates.previous_hosts."""
    return True
