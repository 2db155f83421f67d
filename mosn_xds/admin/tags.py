"""Tags: which part of a stat's name is a label (Envoy's `stats_config.stats_tags` and its default extractors).

A tag is a regular expression over the full name: its first group is cut out of the name, its second (or the first, if
there is one only) is the value. Prometheus groups by what is left. Of two expressions for one tag the first that finds
something counts, and an expression without a group finds nothing.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from mosn_xds.control.bootstrap.stats import DEFAULT_TAGS, RPC_TAGS

_UNSAFE = re.compile(r"[^a-zA-Z0-9_]")


class TagExtractor:
    """Splits stat names into the name without tags and the tags. Results are cached: names repeat for ever."""

    def __init__(
        self, rules: Sequence[tuple[str, str]] = (*DEFAULT_TAGS, *RPC_TAGS), fixed: Sequence[tuple[str, str]] = ()
    ) -> None:
        """`rules` are tags (name, expression) in the order in which they are tried; `fixed` ones (name, value) are on every
        stat, the first of a name counts.

        Raises re.error for an expression that is none.
        """
        compiled = [(name, re.compile(pattern)) for name, pattern in rules]
        self._rules = [(name, pattern) for name, pattern in compiled if pattern.groups]
        self._fixed: dict[str, str] = {}
        for name, value in fixed:
            self._fixed.setdefault(name, value)
        self.split = lru_cache(maxsize=200_000)(self._split)

    def _split(self, name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        """(name without tags, ((tag, value), ...))."""
        tags = dict(self._fixed)
        cuts: list[tuple[int, int]] = []
        for tag, pattern in self._rules:
            if tag in tags:
                continue
            found = pattern.search(name)
            if found is None:
                continue
            groups = pattern.groups
            cut = found.span(1)
            if any(cut[0] < end and start < cut[1] for start, end in cuts):
                continue
            tags[tag] = (found.group(2 if groups >= 2 else 1) or "").rstrip(".")  # as Envoy stores names
            cuts.append(cut)
        rest = name
        for start, end in sorted(cuts, reverse=True):
            rest = rest[:start] + rest[end:]
        return rest, tuple(tags.items())


def sanitize(name: str) -> str:
    """A Prometheus name: everything else becomes an underscore."""
    return _UNSAFE.sub("_", name)


def escape(value: str) -> str:
    """A label's value inside its quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
