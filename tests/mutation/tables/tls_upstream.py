"""Mutants for test_tls_upstream.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_no_sni"

_CONTEXT = "spec.tls:TlsContext"
_UPSTREAM = "spec.tls:UpstreamTls"
_VALIDATION = "spec.tls:Validation"
_CLUSTER = "spec.cluster:Cluster"

MUTANTS = [
    mutant(
        "no name is good",
        Returns("data.tls.verify:PeerPolicy.refuses", "Refusal.SAN"),
        "test_good",
        spares="test_hang_up",
    ),
    mutant(
        "clusters trust everybody",
        Fixed(f"{_VALIDATION}.accept_untrusted", "True"),
        "test_bad",
    ),
    mutant(
        "match_typed_subject_alt_names has no effect",
        Ignored(f"{_VALIDATION}.sans"),
        "test_bad",
        "test_stats",
    ),
    mutant(
        "failures have no reasons",
        Returns("data.tls.failures:_bracket", "''"),
        "test_bad",
    ),
    mutant(
        "the peer of an upstream connection is not known",
        Returns("data.observe.tls_operators:_upstream"),
        "test_log",
    ),
    mutant(
        "UF is not set",
        Fixed("data.proxy.upstream_failure:FLAG_OF_RESET", "dict.fromkeys(ResetReason, 0)"),
        "test_hang_up",
        "test_deaf",
        "test_bad",
        "test_late_alert",
    ),
    mutant("no session goes on", Fixed(f"{_UPSTREAM}.max_session_keys", "0"), "test_resumption"),
    mutant("sni has no effect", Ignored(f"{_UPSTREAM}.sni"), "test_sni", "test_matches"),
    mutant(
        "everybody has a server name",
        Fixed(f"{_UPSTREAM}.sni", "'fixed.test'"),
        "test_no_sni",
        "test_sni",
        spares="test_mutual",
    ),
    mutant(
        "auto_sni has no effect",
        Ignored(f"{_CLUSTER}.auto_sni"),
        "test_auto_sni",
        "test_auto_sni_keeps_apart",
        "test_override_auto_sni",
    ),
    mutant(
        "auto_san_validation has no effect",
        Ignored(f"{_CLUSTER}.auto_san_validation"),
        "test_auto_sni",
    ),
    mutant(
        "override_auto_sni_header has no effect",
        Ignored(f"{_CLUSTER}.override_auto_sni_header"),
        "test_override_auto_sni",
    ),
    mutant(
        "clusters have no certificates",
        Swap("data.tls.contexts:client_context", "identities[:1]", "()"),
        "test_mutual",
    ),
    mutant("alpn_protocols have no effect", Fixed(f"{_CONTEXT}.alpn", "('none',)"), "test_alpn", "test_default_alpn"),
    mutant(
        "transport_socket_matches have no effect",
        Ignored(f"{_CLUSTER}.transport_matches"),
        "test_matches",
    ),
    mutant(
        "a connection serves one request",
        Fixed(f"{_CLUSTER}.max_requests_per_connection", "1"),
        "test_keep_alive",
    ),
    mutant(
        "plaintext goes to every upstream",
        (Fixed(f"{_CLUSTER}.transport", "'raw_buffer'"), Ignored(f"{_CLUSTER}.tls")),
        "test_tcp",
        "test_tcp_both",
        "test_good",
        spares="test_matches",
    ),
]
