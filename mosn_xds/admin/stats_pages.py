"""`/stats` in its three forms, in Envoy's text to the letter where tools read it.

Names are sorted; counters and gauges share one list, histograms follow. Prometheus has one TYPE line per family and
cumulative buckets.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mosn_xds.admin.tags import TagExtractor, escape, sanitize
from mosn_xds.admin.view import Distribution, Figure, Totals
from mosn_xds.base.stats import HISTOGRAM_BOUNDS, HistogramChange

QUANTILES = (0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100)

Wanted = Callable[[str, bool], bool]


def wanted(pattern: str | None, used_only: bool) -> Wanted:
    """A predicate over (name, used). Raises ValueError for a bad expression."""
    try:
        search = re.compile(pattern).search if pattern else None
    except re.error as error:
        raise ValueError(f'Invalid re2 regex: "{error}"') from None

    def is_wanted(name: str, used: bool) -> bool:
        if used_only and not used:
            return False
        return search is None or search(name) is not None

    return is_wanted


def quantile(cell: HistogramChange, percent: float) -> float:
    """The value below which `percent` of the samples lie, interpolated inside its bucket."""
    rank = cell.count * percent / 100
    below = 0
    low = 0.0
    for bound, count in zip((*HISTOGRAM_BOUNDS, HISTOGRAM_BOUNDS[-1]), cell.buckets, strict=True):
        if count and below + count >= rank:
            share = max(0.0, rank - below) / count
            return low + (bound - low) * share
        if count:
            below += count
        low = bound
    return low


def _short(number: float) -> str:
    return f"{number:.5g}"


def text(totals: Totals, is_wanted: Wanted) -> str:
    """``name: value`` lines."""
    lines = [f'{name}: "{value}"\n' for name, value in sorted(totals.text_readouts()) if is_wanted(name, True)]
    figures = {f.name: f.value for f in _figures(totals) if is_wanted(f.name, f.used)}
    lines += [f"{name}: {figures[name]}\n" for name in sorted(figures)]
    for one in sorted((h for h in totals.histograms() if is_wanted(h.name, h.used)), key=_name):
        lines.append(f"{one.name}: {_quantiles(one.cell)}\n")
    return "".join(lines)


def _name(figure: Figure | Distribution) -> str:
    return figure.name


def _figures(totals: Totals) -> Iterable[Figure]:
    yield from totals.counters()
    yield from totals.gauges()


def _quantiles(cell: HistogramChange) -> str:
    if not cell.count:
        return "No recorded values"
    parts = []
    for percent in QUANTILES:
        value = _short(quantile(cell, percent))
        parts.append(f"P{percent:g}({value},{value})")
    return " ".join(parts)


def as_json(totals: Totals, is_wanted: Wanted) -> dict[str, Any]:
    """``{"stats": [{"name", "value"}, ..., {"histograms": ...}]}``"""
    figures = {f.name: f.value for f in _figures(totals) if is_wanted(f.name, f.used)}
    stats: list[Any] = [{"name": name, "value": value} for name, value in sorted(totals.text_readouts())]
    stats += [{"name": name, "value": figures[name]} for name in sorted(figures)]
    computed = []
    for one in sorted((h for h in totals.histograms() if is_wanted(h.name, h.used)), key=_name):
        values: list[Mapping[str, float | None]] = []
        for percent in QUANTILES:
            value = quantile(one.cell, percent) if one.cell.count else None
            values.append({"cumulative": value, "interval": None})
        computed.append({"name": one.name, "values": values})
    if computed:
        stats.append({"histograms": {"supported_quantiles": list(QUANTILES), "computed_quantiles": computed}})
    return {"stats": stats}


def prometheus(totals: Totals, is_wanted: Wanted, tags: TagExtractor) -> str:
    """The text exposition format, version 0.0.4."""
    families: dict[tuple[str, str], list[str]] = {}
    for kind, figures in (("counter", totals.counters()), ("gauge", totals.gauges())):
        for figure in figures:
            if is_wanted(figure.name, figure.used):
                name, labels = _family(figure.name, tags)
                families.setdefault((name, kind), []).append(f"{name}{{{labels}}} {figure.value}\n")
    for one in totals.histograms():
        if is_wanted(one.name, one.used):
            name, labels = _family(one.name, tags)
            families.setdefault((name, "histogram"), []).append(_histogram(name, labels, one.cell))
    out = []
    for (name, kind), lines in sorted(families.items()):
        out.append(f"# TYPE {name} {kind}\n")
        out.extend(sorted(lines))
    return "".join(out)


def _family(full_name: str, tags: TagExtractor) -> tuple[str, str]:
    rest, labels = tags.split(full_name)
    text = ",".join(f'{sanitize(tag)}="{escape(value)}"' for tag, value in labels)
    return f"envoy_{sanitize(rest)}", text


def _histogram(name: str, labels: str, cell: HistogramChange) -> str:
    comma = "," if labels else ""
    lines = []
    total = 0
    for bound, count in zip(HISTOGRAM_BOUNDS, cell.buckets, strict=False):
        total += count
        lines.append(f'{name}_bucket{{{labels}{comma}le="{bound:g}"}} {total}\n')
    lines.append(f'{name}_bucket{{{labels}{comma}le="+Inf"}} {cell.count}\n')
    lines.append(f"{name}_sum{{{labels}}} {cell.total:.17g}\n")
    lines.append(f"{name}_count{{{labels}}} {cell.count}\n")
    return "".join(lines)
