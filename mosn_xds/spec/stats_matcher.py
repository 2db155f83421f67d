"""Which statistics exist (envoy.config.metrics.v3.StatsMatcher): what is excluded has no cell anywhere.

Both halves ask: the workers before they make a cell, the agent for its own.
"""

import re2

from mosn_xds.spec.common import Spec, StringMatch, StringMatchKind


class StatsPatterns(Spec, frozen=True):
    """`include`: only what a pattern matches exists; otherwise all but that. No pattern and no `include`: everything."""

    include: bool = False
    patterns: tuple[StringMatch, ...] = ()


EVERYTHING = StatsPatterns()
NOTHING = StatsPatterns(include=True)


class StatsMatcher:
    """`StatsPatterns`, compiled. Asked once per stat, not per request."""

    def __init__(self, spec: StatsPatterns) -> None:
        self.spec = spec
        exact: set[str] = set()
        prefixes: list[str] = []
        suffixes: list[str] = []
        patterns: list[str] = []
        for match in spec.patterns:
            if match.kind is StringMatchKind.REGEX:
                patterns.append(match.value)
            elif match.ignore_case or match.kind is StringMatchKind.CONTAINS:
                patterns.append(_pattern(match))
            elif match.kind is StringMatchKind.EXACT:
                exact.add(match.value)
            else:
                (prefixes if match.kind is StringMatchKind.PREFIX else suffixes).append(match.value)
        self._exact = frozenset(exact)
        self._prefixes = tuple(prefixes)
        self._suffixes = tuple(suffixes)
        self._regex = re2.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None

    def __repr__(self) -> str:
        return f"<StatsMatcher {'only' if self.spec.include else 'all but'} {len(self.spec.patterns)} patterns>"

    def allows(self, name: str) -> bool:
        """May a stat of this full name exist?"""
        matches = (
            name in self._exact
            or name.startswith(self._prefixes)
            or name.endswith(self._suffixes)
            or (self._regex is not None and self._regex.fullmatch(name) is not None)
        )
        return matches is self.spec.include


def _pattern(match: StringMatch) -> str:
    text = re2.escape(match.value)
    match match.kind:
        case StringMatchKind.PREFIX:
            text = f"{text}.*"
        case StringMatchKind.SUFFIX:
            text = f".*{text}"
        case StringMatchKind.CONTAINS:
            text = f".*{text}.*"
        case _:
            pass
    return f"(?i){text}" if match.ignore_case else text
