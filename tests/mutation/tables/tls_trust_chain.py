"""Mutants for test_tls_trust_chain.py."""

from tests.mutation.mutant import Fixed, Ignored, Swap, mutant

CANARY = "test_a_trusted_intermediate"

_VALIDATION = "spec.tls:Validation"
_CONTEXTS = "data.tls.contexts"

MUTANTS = [
    mutant("max_verify_depth is 1", Fixed(f"{_VALIDATION}.max_depth", "1"), "test_within_the_depth"),
    mutant("max_verify_depth has no effect", Ignored(f"{_VALIDATION}.max_depth"), "test_beyond_the_depth"),
    mutant(
        "only roots are trusted",
        Swap(_CONTEXTS, "crypto.X509StoreFlags.PARTIAL_CHAIN", "0"),
        "test_a_trusted_intermediate",
        spares="test_within_the_depth",
    ),
    mutant("only_verify_leaf_cert_crl has no effect", Ignored(f"{_VALIDATION}.only_leaf_crl"), "test_lists_of_a_chain"),
    mutant("revocation lists have no effect", Ignored(f"{_VALIDATION}.crl"), "test_revoked_by_an_intermediate"),
]
