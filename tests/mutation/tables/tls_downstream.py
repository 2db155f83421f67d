"""Mutants for test_tls_downstream.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_forwarded_proto"

_CONTEXT = "spec.tls:TlsContext"
_DOWNSTREAM = "spec.tls:DownstreamTls"
_VALIDATION = "spec.tls:Validation"
_MATCH = "spec.route:RouteMatch"
_CONTEXTS = "data.tls.contexts"

MUTANTS = [
    mutant(
        "TLS 1.3 is the least",
        Fixed(f"{_CONTEXT}.min_version", "TlsVersion.TLS_1_3"),
        "test_one_way",
        "test_no_certificate",
    ),
    mutant(
        "requests do not know that they came by TLS",
        Swap("data.proxy.request_headers:RequestHeaders", "connection.tls", "None"),
        "test_forwarded_proto",
        spares="test_one_way",
    ),
    mutant(
        "a connection serves one request",
        Fixed("spec.listener:HttpConnectionManager.max_requests_per_connection", "1"),
        "test_keep_alive",
    ),
    mutant(
        "no name and no hash is good",
        Returns("data.tls.verify:PeerPolicy.refuses", "Refusal.SAN"),
        "test_good_client",
    ),
    mutant(
        "require_client_certificate has no effect",
        Ignored(f"{_DOWNSTREAM}.require_client_certificate"),
        "test_no_certificate",
        "test_unchecked",
    ),
    mutant(
        "client certificates are always required",
        Fixed(f"{_DOWNSTREAM}.require_client_certificate", "True"),
        "test_optional",
        "test_routes_without_certificate",
        spares="test_good_client",
    ),
    mutant(
        "every chain is trusted",
        Fixed(f"{_VALIDATION}.accept_untrusted", "True"),
        "test_refused_client",
        "test_log_of_a_failure",
        "test_revoked",
    ),
    mutant(
        "match_typed_subject_alt_names has no effect",
        Ignored(f"{_VALIDATION}.sans"),
        "test_wrong_name",
        "test_nameless",
    ),
    mutant(
        "verify_certificate_hash and verify_certificate_spki have no effect",
        (Ignored(f"{_VALIDATION}.hashes"), Ignored(f"{_VALIDATION}.spki_pins")),
        "test_wrong_pin",
        "test_pin_alert",
    ),
    mutant("crl has no effect", Ignored(f"{_VALIDATION}.crl"), "test_revoked"),
    mutant(
        "allow_expired_certificate has no effect",
        Ignored(f"{_VALIDATION}.allow_expired"),
        "test_expired_is_allowed",
    ),
    mutant(
        "trust_chain_verification has no effect",
        Ignored(f"{_VALIDATION}.accept_untrusted"),
        "test_untrusted_is_accepted",
    ),
    mutant(
        "tls_context of a route match has no effect",
        (Ignored(f"{_MATCH}.peer_presented"), Ignored(f"{_MATCH}.peer_validated")),
        "test_routes_without_certificate",
        "test_untrusted_is_accepted",
        "test_unchecked",
    ),
    mutant(
        "the server name chooses no certificate",
        Returns(f"{_CONTEXTS}:_switcher", "lambda connection: None"),
        "test_sni",
    ),
    mutant(
        "a context has one certificate",
        Returns(f"{_CONTEXTS}:_one_of_each_type", "list(identities[:1])"),
        "test_key_types",
    ),
    mutant("alpn_protocols have no effect", Ignored(f"{_CONTEXT}.alpn"), "test_alpn"),
    mutant(
        "protocol versions have no effect",
        (Ignored(f"{_CONTEXT}.min_version"), Ignored(f"{_CONTEXT}.max_version")),
        "test_versions",
    ),
    mutant("cipher_suites have no effect", Ignored(f"{_CONTEXT}.ciphers"), "test_ciphers"),
    mutant("ecdh_curves have no effect", Ignored(f"{_CONTEXT}.curves"), "test_curves"),
    mutant(
        "failures have no reasons",
        Returns("data.tls.failures:_bracket", "''"),
        "test_plaintext",
        "test_refused_client",
        "test_no_certificate",
        "test_wrong_name",
        "test_nameless",
        "test_wrong_pin",
        "test_revoked",
        "test_versions",
        "test_ciphers",
    ),
    mutant(
        "a client that goes away has failed",
        Swap("data.tls.failures:explain", "not error.reasons or 'unexpected eof' in error.reasons[0][1]", "False"),
        "test_gone_early",
    ),
    mutant(
        "transport_socket_connect_timeout has no effect",
        Ignored("spec.listener:FilterChain.transport_connect_timeout_s"),
        "test_slow_handshake",
    ),
    mutant(
        "no session goes on",
        (Fixed(f"{_DOWNSTREAM}.ticket_secret", "None"), Fixed(f"{_DOWNSTREAM}.session_cache", "False")),
        "test_resumption",
    ),
    mutant(
        "sessions go on at any listener",
        Swap(f"{_CONTEXTS}:server_context.make", "sha256(uid).digest()", "b'any'"),
        "test_no_resumption_elsewhere",
    ),
    mutant(
        "there are always tickets",
        Fixed(f"{_DOWNSTREAM}.ticket_secret", "AGENT_TICKET_KEYS"),
        "test_no_tickets",
    ),
    mutant("handshakes are not counted", Returns("data.tls.stats:SslStats.count_handshake"), "test_stats"),
    mutant(
        "forward_client_cert_details has no effect",
        Ignored("spec.listener:HttpConnectionManager.forward_client_cert"),
        "test_xfcc",
        "test_xfcc_odd",
        "test_xfcc_without_certificate",
    ),
    mutant(
        "client certificates are not forwarded",
        Ignored("spec.listener:HttpConnectionManager.forward_client_cert"),
        "test_xfcc_nameless",
        beside_envoy=True,
    ),
    mutant(
        "nobody is authenticated",
        Returns("data.filters.rbac_engine:_authenticated", "lambda subject: False"),
        "test_rbac",
        "test_network_rbac",
    ),
]
