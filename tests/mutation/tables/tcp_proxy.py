"""Mutants for test_tcp_proxy.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_the_upstream_speaks_first"

_SPEC = "spec.listener:TcpProxy"
_MODULE = "data.proxy.tcp_proxy"
_SESSION = f"{_MODULE}:TcpSession"

MUTANTS = [
    mutant(
        "bytes are not logged",
        Swap(f"{_SESSION}._log", "stream.bytes_received = self.wire.bytes_received", "pass"),
        "test_bytes_flow",
    ),
    mutant(
        "nothing comes back",
        Returns(f"{_SESSION}._to_downstream"),
        "test_the_upstream_speaks_first",
        "test_bulk",
        "test_half_close_of_the_client",
        "test_half_close_of_the_upstream",
        "test_bytes_before_the_end_arrive",
        spares="test_no_cluster",
    ),
    mutant(
        "a FIN of the client is not passed on",
        Swap(f"{_SESSION}.on_eof", "self._up.shutdown_write()", "None"),
        "test_half_close_of_the_client",
    ),
    mutant(
        "a FIN of the client is the end",
        Swap(f"{_SESSION}.on_eof", "self._up.shutdown_write()", "self.wire.close()"),
        "test_bulk",
        "test_half_close_of_the_client",
        "test_bytes_before_the_end_arrive",
    ),
    mutant(
        "a FIN of the upstream is the end",
        Returns(f"{_SESSION}.on_upstream_eof", "self.wire.close()"),
        "test_half_close_of_the_upstream",
    ),
    mutant(
        "a reset of the upstream is passed on as a FIN",
        Swap(f"{_SESSION}.on_upstream_closed", "self.wire.abort()", "self.wire.close()"),
        "test_reset_of_the_upstream",
    ),
    mutant(
        "a reset of the client is passed on as a FIN",
        Swap(f"{_SESSION}._end_upstream", "up.abort()", "up.close()"),
        "test_reset_of_the_client",
    ),
    mutant(
        "UF is not set",
        Fixed(f"{_MODULE}:_CONNECT_FAILED", "0"),
        "test_connection_refused",
        "test_connect_timeout",
    ),
    mutant(
        "max_connect_attempts has no effect",
        Ignored(f"{_SPEC}.max_connect_attempts"),
        "test_connecting_is_tried_again",
        "test_another_attempt_succeeds",
    ),
    mutant(
        "connect_timeout has no effect",
        Ignored("spec.cluster:Cluster.connect_timeout_s"),
        "test_connect_timeout",
    ),
    mutant("NC is not set", Fixed(f"{_MODULE}:_NO_CLUSTER", "0"), "test_no_cluster"),
    mutant("UH is not set", Fixed(f"{_MODULE}:_NO_HOST", "0"), "test_no_healthy_upstream"),
    mutant("idle_timeout has no effect", Ignored(f"{_SPEC}.idle_timeout_s"), "test_idle_timeout"),
    mutant(
        "max_downstream_connection_duration has no effect",
        Ignored(f"{_SPEC}.max_downstream_connection_duration_s"),
        "test_maximum_age",
    ),
    mutant(
        "of weighted clusters the first is picked",
        Returns(f"{_MODULE}:TcpProxy.pick_cluster", "self.spec.clusters[0].name"),
        "test_weighted_clusters",
    ),
    mutant(
        "max_connections has no effect",
        Ignored("spec.cluster:Breakers.max_connections"),
        "test_max_connections",
    ),
]
