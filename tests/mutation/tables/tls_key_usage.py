"""Mutants for test_tls_key_usage.py."""

from tests.mutation.mutant import Returns, Swap, mutant

CANARY = "test_chain_first"

_CHECK = "data.tls.key_use:KeyCheck"

MUTANTS = [
    mutant(
        "key usage does not matter",
        Returns("data.tls.key_use:KeyUse.allowed_by", "True"),
        "test_upstream",
        "test_switch",
        "test_misused_client",
        "test_stats",
    ),
    mutant(
        "every key signs",
        Swap(f"{_CHECK}._use", "KeyUse.ENCIPHERMENT", "KeyUse.SIGNATURE"),
        "test_upstream",
        spares="test_client",
    ),
    mutant(
        "what a certificate does not say it forbids",
        Swap("data.tls.key_use:KeyUse.allowed_by", "True", "self is KeyUse.ANY"),
        "test_client",
        "test_upstream",
    ),
    mutant(
        "key usage comes before the chain",
        Swap(f"{_CHECK}.refuses", "is_new is before_chain", "before_chain"),
        "test_chain_first",
        spares="test_client",
    ),
    mutant(
        "upstreams without roots show no certificate",
        Swap("data.tls.handshake:Handshake.complete", "facts.peer is not None", "False"),
        "test_stats",
    ),
]
