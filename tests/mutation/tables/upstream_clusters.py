"""Mutants for test_upstream_clusters.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_upstream_connections_are_reused"

_CLUSTER = "spec.cluster:Cluster"
_BREAKERS = "spec.cluster:Breakers"
_ACTION = "spec.route:RouteAction"
_MIRROR = "spec.route:Mirror"
_HASH = "data.proxy.hash_policy"

MUTANTS = [
    mutant(
        "the first host is always next",
        Returns("data.balance.pickers:RoundRobinPicker.pick", "self._hosts[0]"),
        "test_round_robin",
    ),
    mutant("weights have no effect", Ignored("spec.cluster:Endpoint.weight"), "test_weighted_round_robin"),
    mutant(
        "health_status has no effect",
        Ignored("spec.cluster:Endpoint.health"),
        "test_only_healthy_hosts_serve",
        "test_the_next_priority_serves",
    ),
    mutant(
        "the first level always serves",
        Returns("data.balance.priorities:choose_level", "(0, False)"),
        "test_the_next_priority_serves",
    ),
    mutant(
        "all headers have one hash",
        Returns(f"{_HASH}:_by_header.method", "7"),
        "test_ring_hash_on_a_header",
        "test_hash_policies_combine",
    ),
    mutant(
        "the ring is not looked at",
        Returns("data.balance.ring_hash:Ring.pick", "self._owners[__import__('random').randrange(len(self._owners))]"),
        "test_ring_hash_on_a_header",
        "test_hash_policies_combine",
        "test_hash_of_a_repeated_header",
        "test_hash_of_a_query_parameter",
        "test_hash_of_a_cookie",
        "test_hash_of_the_source_address",
    ),
    mutant(
        "minimum_ring_size has no effect",
        (Ignored("spec.cluster:RingHash.minimum_ring_size"), Ignored("spec.cluster:RingHash.maximum_ring_size")),
        "test_ring_hash_on_a_header",
    ),
    mutant(
        "of several hash policies the last counts",
        Swap(f"{_HASH}:HashPolicies.compute", "value ^= (combined << 1 | combined >> 63) & _MASK", "pass"),
        "test_hash_policies_combine",
    ),
    mutant(
        "terminal has no effect",
        Ignored("spec.route:HeaderHash.terminal"),
        "test_hash_policies_combine",
    ),
    mutant(
        "values of a repeated header hash in their own order",
        Swap(f"{_HASH}:_by_header.method", "sorted(values)", "values"),
        "test_hash_of_a_repeated_header",
    ),
    mutant(
        "all query parameters have one hash",
        Returns(f"{_HASH}:_by_query.method", "7"),
        "test_hash_of_a_query_parameter",
    ),
    mutant("all cookies have one hash", Returns(f"{_HASH}:_by_cookie.method", "7"), "test_hash_of_a_cookie"),
    mutant("ttl of a cookie has no effect", Ignored("spec.route:CookieHash.ttl_s"), "test_a_cookie_is_made"),
    mutant(
        "all source addresses have one hash",
        Swap(f"{_HASH}:_compile", "_hash(connection.remote.host.encode())", "7"),
        "test_hash_of_the_source_address",
    ),
    mutant("max_requests has no effect", Ignored(f"{_BREAKERS}.max_requests"), "test_max_requests"),
    mutant("there is one priority", Ignored(f"{_ACTION}.high_priority"), "test_breakers_are_per_priority"),
    mutant("max_pending_requests has no effect", Ignored(f"{_BREAKERS}.max_pending_requests"), "test_max_pending"),
    mutant("max_connections has no effect", Ignored(f"{_BREAKERS}.max_connections"), "test_max_connections"),
    mutant(
        "a connection serves one request",
        Fixed(f"{_CLUSTER}.max_requests_per_connection", "1"),
        "test_upstream_connections_are_reused",
        "test_an_upstream_connection_serves_so_many_requests",
        spares="test_round_robin",
    ),
    mutant(
        "max_requests_per_connection has no effect",
        Ignored(f"{_CLUSTER}.max_requests_per_connection"),
        "test_an_upstream_connection_serves_so_many_requests",
    ),
    mutant(
        "connection: close of an upstream is overlooked",
        Swap("data.upstream.http1:Http1Connection._complete", "not self.codec.reusable", "False"),
        "test_a_closed_upstream_connection_is_not_reused",
    ),
    mutant(
        "the end of an idle connection is overlooked, and the request on it lost",
        (
            Swap("data.upstream.http1:Http1Connection.on_eof", "self.close()", "None"),
            Swap("data.upstream.http1:Http1Connection._fail_all", "self._leave()", "None"),
            Returns("data.proxy.router:Router._may_resend", "False"),
        ),
        "test_an_idle_connection_that_was_closed",
    ),
    mutant(
        "a request that was read is sent again",
        Swap("data.proxy.router:Router.on_reset", "stale is not Stale.NO and self._may_resend(stale)", "True"),
        "test_a_connection_closed_under_a_request",
    ),
    mutant("connect_timeout has no effect", Ignored(f"{_CLUSTER}.connect_timeout_s"), "test_connect_timeout"),
    mutant(
        "nothing is mirrored",
        Ignored(f"{_ACTION}.mirrors"),
        "test_mirroring",
        "test_no_mirroring",
        "test_the_shadow_host_may_stay",
    ),
    mutant("runtime_fraction of a mirror has no effect", Ignored(f"{_MIRROR}.fraction"), "test_no_mirroring"),
    mutant(
        "disable_shadow_host_suffix_append has no effect",
        Ignored(f"{_MIRROR}.append_shadow_suffix"),
        "test_the_shadow_host_may_stay",
    ),
]
