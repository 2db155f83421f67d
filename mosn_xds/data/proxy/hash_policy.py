"""The hash that consistent load balancing goes by (Envoy's Http::HashPolicyImpl), number for number.

Each policy that finds its value gives an XXH64; they are combined by rotating what is there one bit to the left and XORing
the next. A terminal policy ends the list once there is a hash at all. No hash: the load balancer draws a host.
"""

from collections.abc import Callable

import xxhash

from mosn_xds.data.codec.head import RequestHead
from mosn_xds.data.match.query import query_parameters
from mosn_xds.data.match.strings import Substitution
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.spec.route import CookieHash, HashPolicy, HeaderHash, QueryHash

_hash = xxhash.xxh64_intdigest
_MASK = (1 << 64) - 1

_Method = Callable[[RequestHead | None, ConnectionInfo, list[bytes]], int | None]


class HashPolicies:
    """The hash policies of one route (or of a TCP proxy, which has no heads), compiled. Raises ConfigError."""

    __slots__ = ("_methods",)

    def __init__(self, policies: tuple[HashPolicy, ...]) -> None:
        self._methods = tuple((_compile(policy), policy.terminal) for policy in policies)

    def __repr__(self) -> str:
        return f"<HashPolicies of {len(self._methods)}>"

    def __bool__(self) -> bool:
        return bool(self._methods)

    def compute(self, head: RequestHead | None, connection: ConnectionInfo, cookies: list[bytes]) -> int | None:
        """The combined hash, None for none. Values for ``set-cookie`` in the response are appended to `cookies`."""
        combined: int | None = None
        for method, terminal in self._methods:
            value = method(head, connection, cookies)
            if value is not None:
                if combined is not None:
                    value ^= (combined << 1 | combined >> 63) & _MASK
                combined = value
            if terminal and combined is not None:
                break
        return combined


def _compile(policy: HashPolicy) -> _Method:
    if isinstance(policy, HeaderHash):
        return _by_header(policy)
    if isinstance(policy, CookieHash):
        return _by_cookie(policy)
    if isinstance(policy, QueryHash):
        return _by_query(policy)
    return lambda head, connection, cookies: _hash(connection.remote.host.encode())


def _by_header(policy: HeaderHash) -> _Method:
    name = policy.name.encode()  # in lower case, if it is HTTP's
    rewrite = Substitution(policy.regex_rewrite) if policy.regex_rewrite is not None else None

    def method(head: RequestHead | None, connection: ConnectionInfo, cookies: list[bytes]) -> int | None:
        values = head.get_all(name) if head is not None else None
        if not values:
            return None
        if rewrite is not None:
            values = [rewrite.apply(value) for value in values]
        value_hash = 0
        for value in sorted(values):
            value_hash = _hash(value, value_hash)
        return value_hash

    return method


def _by_cookie(policy: CookieHash) -> _Method:
    name = policy.name.encode()

    def method(head: RequestHead | None, connection: ConnectionInfo, cookies: list[bytes]) -> int | None:
        if head is None:
            return None
        value = cookie_value(head, name)
        if value:
            return _hash(value)
        if policy.ttl_s is None:
            return None
        value = b"%x" % _hash(f"{connection.remote}{connection.local}".encode())
        value = value.rjust(16, b"0")
        cookies.append(_set_cookie(policy, value))
        return _hash(value)

    return method


def _by_query(policy: QueryHash) -> _Method:
    name = policy.name.encode()

    def method(head: RequestHead | None, connection: ConnectionInfo, cookies: list[bytes]) -> int | None:
        value = query_parameters(head.path).get(name) if head is not None else None
        return _hash(value) if value is not None else None

    return method


def cookie_value(head: RequestHead, name: bytes) -> bytes:
    """The value of the first cookie of that name, without double quotes around it; empty when there is none."""
    for field, cookies in head.fields:
        if field != b"cookie":
            continue
        for pair in cookies.split(b";"):
            key, found, value = pair.strip(b" \t").partition(b"=")
            if found and key == name:
                return value[1:-1] if len(value) > 1 and value[:1] == b'"' == value[-1:] else value
    return b""


def _set_cookie(policy: CookieHash, value: bytes) -> bytes:
    parts = [f'{policy.name}="'.encode() + value + b'"']
    if policy.ttl_s and int(policy.ttl_s):
        parts.append(b"Max-Age=%d" % policy.ttl_s)
    if policy.path:
        parts.append(b"Path=" + policy.path.encode())
    parts += [(f"{key}={text}" if text else key).encode() for key, text in policy.attributes]
    parts.append(b"HttpOnly")
    return b"; ".join(parts)
