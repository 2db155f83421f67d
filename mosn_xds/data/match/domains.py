"""Which virtual host a host name belongs to (Envoy's RouteMatcher::findVirtualHost).

Exact names first, then suffix wildcards (``*.foo.com``, ``*-bar.foo.com``), longest first, then prefix wildcards (``foo.*``),
longest first, then ``*``. Every suffix wildcard beats every prefix wildcard, even a shorter one, and a wildcard stands for
at least one character. A table knows its virtual hosts by position only, so that an update which changes routes but no
domains, the common one, keeps it.
"""

from collections.abc import Sequence

from mosn_xds.base.errors import ConfigError


class DomainTable:
    """Positions by domain. Raises ConfigError for a domain that is there twice.

    `any_case`: as host names are compared; RPC services keep their case.
    """

    __slots__ = ("_any_case", "_default", "_exact", "_prefixes", "_suffixes", "domains")

    def __init__(self, domains: Sequence[tuple[str, ...]], *, any_case: bool = True) -> None:
        self.domains = tuple(domains)
        self._any_case = any_case
        self._exact: dict[bytes, int] = {}
        self._default = -1
        suffixes: dict[int, dict[bytes, int]] = {}
        prefixes: dict[int, dict[bytes, int]] = {}
        for position, names in enumerate(self.domains):
            for name in names:
                text = (name.lower() if any_case else name).encode()
                if text == b"*":
                    if self._default >= 0:
                        raise ConfigError("Only a single wildcard domain is permitted")
                    self._default = position
                elif text[:1] == b"*":
                    _add(suffixes.setdefault(len(text) - 1, {}), text[1:], position, name)
                elif text[-1:] == b"*":
                    _add(prefixes.setdefault(len(text) - 1, {}), text[:-1], position, name)
                else:
                    _add(self._exact, text, position, name)
        self._suffixes = sorted(suffixes.items(), reverse=True)
        self._prefixes = sorted(prefixes.items(), reverse=True)

    def __repr__(self) -> str:
        return f"<DomainTable {sum(map(len, self.domains))} domains>"

    def find(self, host: bytes) -> int:
        """The position of the virtual host, or -1. `host` is an authority as it came."""
        if self._any_case:
            host = host.lower()
        position = self._exact.get(host)
        if position is not None:
            return position
        if self._suffixes or self._prefixes:
            size = len(host)
            for length, names in self._suffixes:
                if length < size and (position := names.get(host[-length:])) is not None:
                    return position
            for length, names in self._prefixes:
                if length < size and (position := names.get(host[:length])) is not None:
                    return position
        return self._default


def _add(names: dict[bytes, int], text: bytes, position: int, name: str) -> None:
    if names.setdefault(text, position) != position:
        raise ConfigError(f"Only unique values for domains are permitted. Duplicate entry of domain {name}")


def without_port(authority: bytes) -> bytes:
    """The authority up to its port, brackets of an IPv6 literal kept (Envoy's HeaderUtility::getPortStart)."""
    colon = authority.rfind(b":")
    if colon < 0 or authority.rfind(b"]") > colon:
        return authority
    return authority[:colon]
