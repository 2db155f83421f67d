"""`/stats` in its three forms, in Envoy's text to the letter where tools read it.

Names are sorted; counters and gauges share one list, histograms follow. Prometheus has one TYPE line per family and
cumulative buckets.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from itertools import accumulate
from typing import Any

from mosn_xds.admin.tags import TagExtractor, escape, sanitize
from mosn_xds.admin.view import Distribution, Figure, Totals

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


class Buckets(Enum):
    """How histograms are shown: `?histogram_buckets=`."""

    SUMMARY = "summary"
    CUMULATIVE = "cumulative"
    DISJOINT = "disjoint"


def buckets_form(text: str | None) -> Buckets:
    """Of a query. Raises ValueError for one that there is not (Envoy's ``detailed`` needs samples that nobody keeps)."""
    if text is None:
        return Buckets.SUMMARY
    try:
        return Buckets(text)
    except ValueError:
        raise ValueError(f"usage: /stats?histogram_buckets=({'|'.join(form.value for form in Buckets)})") from None


def quantile(one: Distribution, percent: float) -> float:
    """The value below which `percent` of the samples lie, interpolated inside its bucket."""
    cell, bounds = one.cell, one.bounds
    rank = cell.count * percent / 100
    below = 0
    low = 0.0
    for bound, count in zip((*bounds, *(bounds[-1:] or (0.0,))), cell.buckets, strict=True):
        if count and below + count >= rank:
            share = max(0.0, rank - below) / count
            return low + (bound - low) * share
        if count:
            below += count
        low = bound
    return low


def _short(number: float) -> str:
    return f"{number:.5g}"


def text(totals: Totals, is_wanted: Wanted, buckets: Buckets = Buckets.SUMMARY) -> str:
    """``name: value`` lines."""
    lines = [f'{name}: "{value}"\n' for name, value in sorted(totals.text_readouts()) if is_wanted(name, True)]
    figures = {f.name: f.value for f in _figures(totals) if is_wanted(f.name, f.used)}
    lines += [f"{name}: {figures[name]}\n" for name in sorted(figures)]
    for one in sorted((h for h in totals.histograms() if is_wanted(h.name, h.used)), key=_name):
        shown = _quantiles(one) if buckets is Buckets.SUMMARY else _bucket_text(one, buckets)
        lines.append(f"{one.name}: {shown}\n")
    return "".join(lines)


def _name(figure: Figure | Distribution) -> str:
    return figure.name


def _figures(totals: Totals) -> Iterable[Figure]:
    yield from totals.counters()
    yield from totals.gauges()


def _counts(one: Distribution, buckets: Buckets) -> Iterable[tuple[float, int]]:
    """(upper bound, count) of each bucket but the one without an upper bound."""
    counts = accumulate(one.cell.buckets) if buckets is Buckets.CUMULATIVE else one.cell.buckets
    return zip(one.bounds, counts, strict=False)


def _bucket_text(one: Distribution, buckets: Buckets) -> str:
    """The first of the two figures is the last interval's, of which there are none here."""
    return " ".join(f"B{_exact(bound)}(0,{count})" for bound, count in _counts(one, buckets))


def _exact(number: float) -> str:
    return f"{number:.32g}"


def _quantiles(one: Distribution) -> str:
    if not one.cell.count:
        return "No recorded values"
    parts = []
    for percent in QUANTILES:
        value = _short(quantile(one, percent))
        parts.append(f"P{percent:g}({value},{value})")
    return " ".join(parts)


def as_json(totals: Totals, is_wanted: Wanted, buckets: Buckets = Buckets.SUMMARY) -> dict[str, Any]:
    """``{"stats": [{"name", "value"}, ..., {"histograms": ...}]}``"""
    figures = {f.name: f.value for f in _figures(totals) if is_wanted(f.name, f.used)}
    texts = {name: value for name, value in totals.text_readouts() if is_wanted(name, True)}
    stats: list[Any] = [{"name": name, "value": value} for name, value in sorted(texts.items())]
    stats += [{"name": name, "value": figures[name]} for name in sorted(figures)]
    histograms = sorted((h for h in totals.histograms() if is_wanted(h.name, h.used)), key=_name)
    if histograms:
        shown = _quantiles_json(histograms) if buckets is Buckets.SUMMARY else _buckets_json(histograms, buckets)
        stats.append({"histograms": shown})
    return {"stats": stats}


def _buckets_json(histograms: Sequence[Distribution], buckets: Buckets) -> list[Any]:
    return [
        {
            "name": one.name,
            "buckets": [
                {"upper_bound": bound, "interval": 0, "cumulative": count} for bound, count in _counts(one, buckets)
            ],
        }
        for one in histograms
    ]


def _quantiles_json(histograms: Sequence[Distribution]) -> dict[str, Any]:
    computed = []
    for one in histograms:
        values: list[Mapping[str, float | None]] = []
        for percent in QUANTILES:
            value = quantile(one, percent) if one.cell.count else None
            values.append({"cumulative": value, "interval": None})
        computed.append({"name": one.name, "values": values})
    return {"supported_quantiles": list(QUANTILES), "computed_quantiles": computed}


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
            families.setdefault((name, "histogram"), []).append(_histogram(name, labels, one))
    out = []
    for (name, kind), lines in sorted(families.items()):
        out.append(f"# TYPE {name} {kind}\n")
        out.extend(sorted(lines))
    return "".join(out)


def _family(full_name: str, tags: TagExtractor) -> tuple[str, str]:
    rest, labels = tags.split(full_name)
    text = ",".join(f'{sanitize(tag)}="{escape(value)}"' for tag, value in labels)
    return f"envoy_{sanitize(rest)}", text


def _histogram(name: str, labels: str, one: Distribution) -> str:
    comma = "," if labels else ""
    cell = one.cell
    lines = []
    for bound, count in _counts(one, Buckets.CUMULATIVE):
        lines.append(f'{name}_bucket{{{labels}{comma}le="{_exact(bound)}"}} {count}\n')
    lines.append(f'{name}_bucket{{{labels}{comma}le="+Inf"}} {cell.count}\n')
    lines.append(f"{name}_sum{{{labels}}} {_exact(cell.total)}\n")
    lines.append(f"{name}_count{{{labels}}} {cell.count}\n")
    return "".join(lines)
