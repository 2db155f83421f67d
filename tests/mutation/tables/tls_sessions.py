"""Mutants for test_tls_sessions.py."""

from tests.mutation.mutant import Ignored, Swap, mutant

CANARY = "test_new_cipher_order"

_TICKETS = "data.net.openssl:TicketKeys"

MUTANTS = [
    mutant(
        "session_ticket_keys: the first key alone counts",
        Swap(f"{_TICKETS}.give_to", "len(self._keys) == 1", "True"),
        "test_ticket_keys",
    ),
    mutant(
        "session tickets of older keys are not renewed",
        Swap(f"{_TICKETS}._on_ticket", "key is first", "True"),
        "test_ticket_keys",
    ),
    mutant(
        "our order of ciphers counts in TLS 1.3, too",
        Swap(
            "data.tls.contexts:server_context.make",
            "order.give_to(context)",
            "None",
        ),
        "test_new_cipher_order",
        spares="test_old_cipher_order",
    ),
    mutant(
        "the default groups are those of old",
        Swap("data.tls.contexts:_prepare", "_SERVER_CURVES", "(DEFAULT_CURVES,)"),
        "test_groups",
    ),
    mutant(
        "listeners know one group of old",
        Swap("data.tls.contexts:_prepare", "_SERVER_CURVES", "('X25519',)"),
        "test_key_share",
        spares="test_old_cipher_order",
    ),
    mutant(
        "ChaCha20 is what everybody gets",
        Swap(
            "data.tls.contexts:server_context.make",
            "context.set_options(_OP_PRIORITIZE_CHACHA)",
            "context.set_cipher_list(b'CHACHA20')",
        ),
        "test_equal_ciphers",
        "test_old_cipher_order",
    ),
    mutant(
        "prefer_client_ciphers has no effect",
        Ignored("spec.tls:DownstreamTls.prefer_client_ciphers"),
        "test_old_cipher_order",
    ),
]
