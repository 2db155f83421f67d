"""Filter chain matches (envoy.config.listener.v3.FilterChainMatch), and which of them cannot stand side by side."""

from collections.abc import Iterator
from itertools import product

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.common import take_cidr
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.listener import ChainMatch, FilterChain, SourceType

_EMPTY = ChainMatch()


def take_chain_match(take: Take | None, listener: str, chain: str) -> ChainMatch | None:
    """None when absent or without a criterion: such a chain matches what no other does.

    Raises ConfigError, which names the `listener`'s addresses and the `chain`, as in Envoy.
    """
    if take is None:
        return None
    for name in ("address_suffix", "suffix_len"):
        if take.has(name):
            raise take.error(
                name, f"error adding listener '{listener}': filter chain '{chain}' contains unimplemented fields"
            )
    names = tuple([name.lower() for name in take.texts("server_names")])
    for name in names:
        if "*" in name and not (name.startswith("*.") and "*" not in name[1:]):
            raise take.error(
                "server_names",
                f"error adding listener '{listener}': partial wildcards are not supported in \"server_names\"",
            )
    match = ChainMatch(
        take.wrapped_integer("destination_port"),
        tuple([take_cidr(one) for one in take.children("prefix_ranges")]),
        names,
        take.text("transport_protocol"),
        take.texts("application_protocols"),
        tuple([take_cidr(one) for one in take.children("direct_source_prefix_ranges")]),
        take.enum("source_type", SourceType),
        tuple([take_cidr(one) for one in take.children("source_prefix_ranges")]),
        take.integers("source_ports"),
    )
    return None if match == _EMPTY else match


def refuse_overlap(chains: tuple[FilterChain, ...], listener: str) -> None:
    """Raises ConfigError if two chains claim the same connections, in Envoy's words."""
    whole: dict[ChainMatch, str] = {}
    claims: set[tuple[object, ...]] = set()
    for number, chain in enumerate(chains):
        match = chain.match or _EMPTY
        if match in whole:
            raise ConfigError(
                f"error adding listener '{listener}': filter chain '{chain.name}' has the same matching rules defined as "
                f"'{whole[match]}'",
                path=f"filter_chains[{number}].filter_chain_match",
            )
        whole[match] = chain.name
        for claim in _claims(match):
            if claim in claims:
                raise ConfigError(
                    f"error adding listener '{listener}': multiple filter chains with overlapping matching rules are "
                    "defined",
                    path=f"filter_chains[{number}].filter_chain_match",
                )
            claims.add(claim)


def _claims(match: ChainMatch) -> Iterator[tuple[object, ...]]:
    anything = (None,)
    return product(
        (match.destination_port,),
        set(match.prefix_ranges) or anything,
        set(match.server_names) or anything,
        (match.transport_protocol,),
        set(match.application_protocols) or anything,
        set(match.direct_source_ranges) or anything,
        (match.source_type,),
        set(match.source_ranges) or anything,
        set(match.source_ports) or anything,
    )
