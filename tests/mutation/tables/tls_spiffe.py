"""Mutants for test_tls_spiffe.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_good"

_BUNDLES = "data.tls.svid:TrustBundles"
_VALIDATION = "spec.tls:Validation"

MUTANTS = [
    mutant(
        "no trust domain is known",
        Returns("data.tls.svid:trust_domain", "''"),
        "test_good",
        "test_purpose",
        "test_validated",
        "test_names",
        "test_over",
        "test_bundle",
        "test_unheeded",
        "test_upstream",
        spares="test_required",
    ),
    mutant(
        "everybody is let in",
        Returns(f"{_BUNDLES}.refuses", "None"),
        "test_refused",
        "test_upstream",
    ),
    mutant(
        "a certificate is not required",
        Swap("data.tls.contexts:server_context", "validation.trust_domains is not None", "False"),
        "test_required",
    ),
    mutant(
        "nobody is validated",
        Swap("data.tls.verify:PeerVerdict.verified", "self._policy.verifies_chain", "False"),
        "test_validated",
    ),
    mutant(
        "all names count",
        Swap("control.translate.secret:_read_svid_validation", "one.kind is SanKind.URI", "True"),
        "test_names",
    ),
    mutant("allow_expired_certificate has no effect", Ignored(f"{_VALIDATION}.allow_expired"), "test_over"),
    mutant(
        "only what servers are for is good",
        Swap(f"{_BUNDLES}.__init__", "store.set_flags(flags)", "lib.X509_STORE_set_purpose(store._store, 1)"),
        "test_purpose",
    ),
    mutant(
        "one authority for each domain",
        Swap(f"{_BUNDLES}.__init__", "roots.certificates", "roots.certificates[:1]"),
        "test_bundle",
    ),
    mutant(
        "SPIFFE's validator is not known",
        Fixed(f"{_VALIDATION}.trust_domains", "()"),
        "test_unheeded",
        "test_bundle",
        spares="test_required",
    ),
]
