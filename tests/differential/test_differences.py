"""The table of deliberate differences: every entry is documented, and every entry is shown by a case."""

import re
from pathlib import Path

import pytest

from tests.differential.differences import DIFFERENCES

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "differences.md"


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference_is_documented_and_shown(name: str) -> None:
    entry = DIFFERENCES[name]
    row = f"| `{name}` | {entry.what} | {entry.envoy} | {entry.ours} | {entry.reason} |"
    assert row in DOCUMENT.read_text().splitlines()
    shown = [path.name for path in HERE.glob("test_*.py") if re.search(rf'difference="{name}"', path.read_text())]
    assert shown, f"no case shows {name}"


def test_nothing_else_is_documented() -> None:
    documented = re.findall(r"^\| `([a-z-]+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert documented == list(DIFFERENCES)
