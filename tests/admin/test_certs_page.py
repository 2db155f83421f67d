"""`/certs`: what is shown of certificates, and for how long they are good."""

from datetime import timedelta

from mosn_xds.admin.certs_page import ends_at, page
from mosn_xds.spec.tls import Certificate, Secret, Validation
from tests.support.authority import Authority

CA = Authority()
MINE = CA.issue("spiffe://cluster.local/ns/shop/sa/front", "a.test", "10.0.0.1", end=timedelta(days=2, hours=1))
CERTIFICATE = Secret("c", certificate=Certificate(MINE.chain.encode(), MINE.key_text.encode()))
ROOTS = Secret("r", validation=Validation(trusted_ca=CA.root.encode()))
NOW = CA.certificate.not_valid_before_utc.timestamp() + 24 * 3600


def test_chain_and_roots_are_shown_with_names_and_days() -> None:
    shown = page([CERTIFICATE, ROOTS], NOW)["certificates"]
    (leaf,) = shown[0]["cert_chain"]
    assert shown[0]["ca_cert"] == [] and shown[1]["cert_chain"] == []
    assert leaf["serial_number"] == f"{MINE.serial:x}"
    assert leaf["subject_alt_names"] == [
        {"uri": "spiffe://cluster.local/ns/shop/sa/front"},
        {"dns": "a.test"},
        {"ip_address": "10.0.0.1"},
    ]
    assert leaf["days_until_expiration"] == "2"
    assert shown[1]["ca_cert"][0]["days_until_expiration"] in ("3649", "3650")
    assert not any(line in str(shown) for line in MINE.key_text.splitlines()[1:2])


def test_secrets_without_certificates_are_left_out() -> None:
    assert page([Secret("t", ticket_keys=(b"x" * 80,)), Secret("p", validation=Validation(hashes=(b"",)))], NOW) == {}
    assert ends_at(Secret("t")) is None
    assert ends_at(CERTIFICATE) is not None
