"""Mutants for test_generic_proxy_upstream.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_rds"

_BINDING = "data.upstream.rpc_binding"
_STREAM = "data.proxy.rpc.stream"

MUTANTS = [
    mutant(
        "nobody is bound",
        Ignored("spec.rpc:RpcProxy.bind_upstream"),
        "test_bound",
        "test_bound_end",
        "test_bound_choice",
        "test_bound_upstream_ends",
        "test_bound_upstream_ends_idle",
    ),
    mutant(
        "what never was is bound to",
        Swap(f"{_BINDING}:RpcBinding.lost", "self._connection is None", "False"),
        "test_bound_failure",
    ),
    mutant(
        "clients of an upstream that is gone stay",
        Returns("data.proxy.rpc.connection:RpcServerConnection.on_upstream_gone", "None"),
        "test_bound_upstream_ends",
        "test_bound_upstream_ends_idle",
    ),
    mutant(
        "a client's id is lost",
        Swap("data.codec.rpc.protocol:RpcProtocol.answer", "request.id", "1"),
        "test_bound_order",
        "test_bound_one_way",
    ),
    mutant(
        "failures have HTTP's words",
        Fixed(f"{_STREAM}:_REASONS", "{}"),
        "test_bound_without_host",
        "test_given_up",
        "test_apart",
        "test_requests_and_retries",
    ),
    mutant(
        "what has no route is told something else",
        Fixed(f"{_STREAM}:_NO_ROUTE", "Reply(404, details='nothing', flags=_NR)"),
        "test_bound_without_route",
        spares="test_apart",
    ),
    mutant("weights have no effect", Ignored("spec.cluster:Endpoint.weight"), "test_weight"),
    mutant(
        "the first host has it all",
        Returns("data.balance.pickers:RoundRobinPicker.pick", "self._hosts[0]"),
        "test_spread",
    ),
    mutant(
        "a connection that has ended is used again",
        Returns("data.upstream.multiplexed:MultiplexedConnection.on_eof", "None"),
        "test_ended_between_requests",
    ),
    mutant(
        "every connection serves for ever",
        Ignored("spec.cluster:Cluster.max_requests_per_connection"),
        "test_requests_per_connection",
    ),
    mutant(
        "answers pile up",
        Swap(
            "data.proxy.rpc.connection:RpcServerConnection._write",
            "wire.pending_bytes > self._most_unread_bytes",
            "False",
        ),
        "test_unread",
    ),
    mutant(
        "as many requests may wait as want to",
        Ignored("spec.cluster:Breakers.max_pending_requests"),
        "test_pending",
        "test_cluster_figures",
    ),
    mutant(
        "a request is a connection, and there may be many",
        (
            Swap(
                "data.codec.rpc.protocol:RpcProtocol",
                "pool: ClassVar[PoolMode] = PoolMode.MULTIPLEX",
                "pool: ClassVar[PoolMode] = PoolMode.PING_PONG",
            ),
            Ignored("spec.cluster:Breakers.max_connections"),
        ),
        "test_connections",
    ),
    mutant(
        "tables that are replaced stay",
        Swap("data.engine:Engine.publish", "self.context.rpc_route_slot(name).current = rpc_table", "pass"),
        "test_rds",
        spares="test_apart",
    ),
]
