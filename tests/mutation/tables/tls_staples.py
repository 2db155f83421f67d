"""Mutants for test_tls_staples.py."""

from tests.mutation.mutant import Fixed, Returns, Swap, mutant

CANARY = "test_unasked"

_STATUS = "data.tls.staples:Staples._on_status"

MUTANTS = [
    mutant(
        "responses are not stapled",
        Swap(_STATUS, "lib.SSL_set_tlsext_status_ocsp_resp(ssl, memory, size)", "None"),
        "test_staples",
        "test_two",
    ),
    mutant(
        "responses are never over",
        Swap(_STATUS, "staple.ends_at > self._read_wall()", "True"),
        "test_staples",
        "test_default",
        "test_failure",
    ),
    mutant(
        "ocsp_staple_policy is strict by default",
        Fixed("spec.tls:DownstreamTls.ocsp_policy", "OcspPolicy.STRICT"),
        "test_default",
        "test_staples",
    ),
    mutant("no certificate demands", Returns("data.tls.staples:_demands_staple", "False"), "test_staples"),
    mutant(
        "clients that do not ask are refused where a response is demanded",
        Swap(
            "data.tls.server:ServerTls.secure",
            "conn.set_app_data(self._stats)",
            "self._spec.ocsp_policy.value == 2 and conn.set_verify(3)",
        ),
        "test_unasked",
        spares="test_default",
    ),
]
