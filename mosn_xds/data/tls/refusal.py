"""Why the certificate of a peer was refused; the value ends Envoy's text for it."""

from enum import Enum


class Refusal(Enum):
    """See the module."""

    CHAIN = "X509_verify_cert: certificate verification error at depth {}: {}"
    REQUIRED_SAN = "verify SAN list"
    SAN = "SAN matcher"
    HASH = "cert hash and spki"
    NO_SVID = "cert precheck"
    TRUST_DOMAIN = "no trust bundle store"
    SPIFFE_ID = "SAN match"
    KEY_USAGE = "KEY_USAGE_BIT_INCORRECT"
