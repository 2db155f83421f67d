"""Names of cipher suites, curves and their groups: BoringSSL's, in which Envoy is configured, to OpenSSL's.

Which names are known is a table that was taken from a real Envoy; both libraries share the grammar of words like
``ECDHE+AESGCM``, and OpenSSL expands them. Bracketed groups of equal preference (``[A|B]``) exist in BoringSSL only and
are flattened: the order inside of a group becomes the order of preference.
"""

import re

from OpenSSL import SSL

_SUITES = frozenset(
    {
        "AES128-GCM-SHA256",
        "AES128-SHA",
        "AES256-GCM-SHA384",
        "AES256-SHA",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES128-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-RSA-AES128-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-SHA",
        "ECDHE-RSA-CHACHA20-POLY1305",
    }
)
_UNAVAILABLE = frozenset(
    {
        "DES-CBC3-SHA",
        "ECDHE-PSK-AES128-CBC-SHA",
        "ECDHE-PSK-AES256-CBC-SHA",
        "ECDHE-PSK-CHACHA20-POLY1305",
        "PSK-AES128-CBC-SHA",
        "PSK-AES256-CBC-SHA",
    }
)
"""Known to BoringSSL: pre-shared keys, which cannot be configured, and 3DES, which OpenSSL no longer has."""

_WORDS = frozenset(
    {"ALL", "HIGH", "DEFAULT", "FIPS", "kRSA", "kECDHE", "ECDHE", "aRSA", "aECDSA", "ECDSA", "RSA", "AES"}
    | {"AES128", "AES256", "AESGCM", "CHACHA20", "SHA1", "SHA", "TLSv1", "TLSv1.2"}
)
_BORING_ONLY = {"FIPS": "ECDHE+AESGCM", "TLSv1": "SHA1"}
_GROUP = re.compile(r"[\[\]|:]")

CURVES = {
    "P-256": "P-256",
    "P-384": "P-384",
    "P-521": "P-521",
    "X25519": "X25519",
    "X25519MLKEM768": "X25519MLKEM768",
    "MLKEM1024": "MLKEM1024",
    "prime256v1": "P-256",
    "secp384r1": "P-384",
    "secp521r1": "P-521",
    "x25519": "X25519",
}
"""What BoringSSL takes for a group, by its first name; OpenSSL 3.5 knows all of those."""


class UnknownNames(Exception):
    """Names that Envoy refuses, too."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


def flatten_ciphers(given: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Suites for TLS 1.2 and below in order of preference, one name each, and the known ones that have no effect here.

    Raises UnknownNames.
    """
    usable: dict[str, None] = {}
    without_effect: list[str] = []
    unknown: list[str] = []
    for token in [token for text in given for token in _GROUP.split(text) if token]:
        if token in _SUITES:
            usable[token] = None
        elif token in _UNAVAILABLE:
            without_effect.append(token)
        elif token.startswith("TLS_RSA_") or token.startswith("TLS_ECDHE_") or _is_expression(token):
            found = _expanded(token)
            if not found:
                unknown.append(token)
            usable.update(dict.fromkeys(found))
        else:
            unknown.append(token.lstrip("!-+"))
    if unknown:
        raise UnknownNames(unknown)
    return tuple(usable), tuple(without_effect)


def known_curves(given: tuple[str, ...]) -> tuple[str, ...]:
    """OpenSSL's names of groups. Raises UnknownNames, for one that is given twice, too."""
    tokens = [token for text in given for token in text.split(":") if token]
    found = [CURVES.get(token, "") for token in tokens]
    unknown = [token for token, name in zip(tokens, found, strict=True) if not name or found.count(name) > 1]
    if unknown:
        raise UnknownNames(unknown)
    return tuple(found)


def _is_expression(token: str) -> bool:
    return all(part in _WORDS for part in token.split("+"))


def _expanded(token: str) -> list[str]:
    context = SSL.Context(SSL.TLS_METHOD)
    try:
        context.set_cipher_list("+".join(_BORING_ONLY.get(part, part) for part in token.split("+")).encode())
    except SSL.Error:
        return []
    return [name for name in SSL.Connection(context).get_cipher_list() if name in _SUITES]
