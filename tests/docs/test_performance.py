"""docs/performance.md describes every scenario of the bench, and README.md says the same of those that it shows."""

import re
from pathlib import Path

from bench.__main__ import SCENARIOS

ROOT = Path(__file__).parent.parent.parent


def shares() -> dict[str, list[str]]:
    """Interpreted and compiled, as the bench printed them."""
    page = (ROOT / "docs" / "performance.md").read_text()
    rows = [line.strip("│").split("│") for line in page.splitlines() if line.startswith("│")]
    found = {row[0].strip(): re.findall(r"\((\d\.\d\d)\)", " ".join(row)) for row in rows}
    return {name: pair for name, pair in found.items() if pair}


def test_each_scenario_of_the_bench_is_described() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    described = {name for row in re.findall(r"^\| ([^|]+) \| [^|]+ \|$", page, re.M) for name in row.split(", ")}
    assert {scenario.name for scenario in SCENARIOS} - described == set()


def test_the_readme_shows_what_the_bench_printed() -> None:
    section = (ROOT / "README.md").read_text().partition("## Price")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([a-z][^|(]*?)(?: \([^|]*\))? \| (\d\.\d\d) \| (\d\.\d\d) \|$", section, re.M)
    assert len(rows) > 5
    printed = shares()
    assert {name: list(pair) for name, *pair in rows} == {name: printed.get(name) for name, *_ in rows}
