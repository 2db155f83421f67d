"""Which filter chain serves a connection: Envoy's FilterChainMatch, in its order and without backtracking.

Nine criteria are asked in turn: destination port, destination IP, server name, transport protocol, application protocols,
direct source IP, source type, source IP, source port. Each step keeps the chains that match it most specifically and drops
all others, for good: if a chain for the exact port exists but fails a later criterion, chains without a port are not tried
again. That makes the match a walk down a tree, one level per criterion, and it is how Envoy does it
(source/common/listener_manager/filter_chain_manager_impl.cc). Levels on which no chain says anything are left out.

The tree ends in positions, not in chains: it depends on the matches alone.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

from mosn_xds.data.match.cidr import CidrTable, IpValue, parse_ip
from mosn_xds.spec.common import Address, CidrRange
from mosn_xds.spec.listener import ChainMatch, SourceType

_EMPTY = ChainMatch()
_LOOPBACK = ("127.0.0.1", "::1")
"""Envoy takes just these for loopback, not all of 127.0.0.0/8."""


class _Facts:
    """What is known of one connection."""

    __slots__ = ("alpns", "destination", "direct_source", "sni", "source", "transport")

    def __init__(
        self,
        destination: Address,
        sni: str,
        transport: str,
        alpns: Sequence[str],
        direct_source: Address,
        source: Address,
    ) -> None:
        self.destination = destination
        self.sni = sni
        self.transport = transport
        self.alpns = alpns
        self.direct_source = direct_source
        self.source = source


_Key = Any
"""What one chain says on one level; None (or ANY) for nothing."""
_Claim = tuple[tuple[_Key, ...], int]
"""One way to reach a chain, a key for each level, and the chain's position."""
_Step = Callable[[Any, _Facts], Any]


class _Prefixes:
    """A level of IP prefixes: the longest one that holds an address, or what has none."""

    __slots__ = ("_otherwise", "_table")

    def __init__(self, branches: dict[CidrRange | None, Any]) -> None:
        self._otherwise = branches.get(None)
        self._table = CidrTable((cidr, branch) for cidr, branch in branches.items() if cidr is not None)

    def find(self, host: str) -> Any:
        address: IpValue | None = parse_ip(host)
        found = self._table.find(address)
        return self._otherwise if found is None else found


def _by_port(branches: Any, facts: _Facts) -> Any:
    branch = branches.get(facts.destination.port or None)
    return branches.get(None) if branch is None else branch


def _by_destination(prefixes: _Prefixes, facts: _Facts) -> Any:
    return prefixes.find(facts.destination.host)


def _by_server_name(branches: Any, facts: _Facts) -> Any:
    name = facts.sni
    if name:
        branch = branches.get(name)
        if branch is not None:
            return branch
        dot = name.find(".", 1)
        while 0 < dot < len(name) - 1:
            branch = branches.get("*" + name[dot:])
            if branch is not None:
                return branch
            dot = name.find(".", dot + 1)
    return branches.get(None)


def _by_transport(branches: Any, facts: _Facts) -> Any:
    branch = branches.get(facts.transport)
    return branches.get(None) if branch is None else branch


def _by_application(branches: Any, facts: _Facts) -> Any:
    for protocol in facts.alpns:
        branch = branches.get(protocol)
        if branch is not None:
            return branch
    return branches.get(None)


def _by_direct_source(prefixes: _Prefixes, facts: _Facts) -> Any:
    return prefixes.find(facts.direct_source.host)


def _by_source_type(branches: Any, facts: _Facts) -> Any:
    kind = SourceType.SAME_IP_OR_LOOPBACK if _is_local(facts) else SourceType.EXTERNAL
    branch = branches.get(kind)
    return branches.get(SourceType.ANY) if branch is None else branch


def _is_local(facts: _Facts) -> bool:
    source = facts.source
    return source.is_pipe or not source.host or source.host in _LOOPBACK or source.host == facts.destination.host


def _by_source(prefixes: _Prefixes, facts: _Facts) -> Any:
    return prefixes.find(facts.source.host)


def _by_source_port(branches: Any, facts: _Facts) -> Any:
    branch = branches.get(facts.source.port or None)
    return branches.get(None) if branch is None else branch


_STEPS: tuple[_Step, ...] = (
    _by_port,
    _by_destination,
    _by_server_name,
    _by_transport,
    _by_application,
    _by_direct_source,
    _by_source_type,
    _by_source,
    _by_source_port,
)
_PREFIX_STEPS = (_by_destination, _by_direct_source, _by_source)


class ChainMatcher:
    """The matches of one listener's chains, compiled. None matches whatever no other chain does.

    Of two chains with equal matches the first one is found: translation refuses such listeners.
    """

    __slots__ = ("_count", "_root", "_steps")

    def __init__(self, matches: Sequence[ChainMatch | None]) -> None:
        self._count = len(matches)
        claims = [claim for position, match in enumerate(matches) for claim in _claims(match or _EMPTY, position)]
        used = [level for level in range(len(_STEPS)) if any(keys[level] for keys, _ in claims)]
        self._steps = tuple(_STEPS[level] for level in used)
        self._root = _grow([(tuple(keys[level] for level in used), position) for keys, position in claims], self._steps)

    def find(
        self,
        *,
        destination: Address,
        sni: str,
        transport: str,
        alpns: Sequence[str],
        direct_source: Address,
        source: Address,
    ) -> int | None:
        """The position of the chain for this connection; None: the default chain's turn, if there is one.

        `sni` is lower-case and empty for none; `alpns` are in the client's order.
        """
        branch = self._root
        if self._steps:
            facts = _Facts(destination, sni, transport, alpns, direct_source, source)
            for step in self._steps:
                if branch is None:
                    return None
                branch = step(branch, facts)
        position: int | None = branch
        return position

    def __repr__(self) -> str:
        return f"<ChainMatcher {self._count} chains by {', '.join(step.__name__[4:] for step in self._steps)}>"


def _claims(match: ChainMatch, position: int) -> Iterable[_Claim]:
    nothing = (None,)
    for keys in product(
        (match.destination_port,),
        match.prefix_ranges or nothing,
        match.server_names or nothing,
        (match.transport_protocol or None,),
        match.application_protocols or nothing,
        match.direct_source_ranges or nothing,
        (match.source_type,),
        match.source_ranges or nothing,
        match.source_ports or nothing,
    ):
        yield keys, position


def _grow(claims: list[_Claim], steps: tuple[_Step, ...], level: int = 0) -> Any:
    """The tree below `level`, for the claims that have come so far."""
    if level == len(steps):
        return claims[0][1] if claims else None
    groups: dict[_Key, list[_Claim]] = {}
    for claim in claims:
        groups.setdefault(claim[0][level], []).append(claim)
    branches = {key: _grow(group, steps, level + 1) for key, group in groups.items()}
    return _Prefixes(branches) if steps[level] in _PREFIX_STEPS else branches
