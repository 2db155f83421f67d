"""Each case names its row: the behaviour that it settles, as Envoy's documentation titles it, and one that no other case has."""

import ast
from collections import Counter
from pathlib import Path


def _titles(file: Path) -> list[str]:
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    cases = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "case"]
    return [ast.literal_eval(call.args[0]) for call in cases]


def test_every_case_has_a_row_of_its_own() -> None:
    titles = [title for file in Path(__file__).parent.glob("test_*.py") for title in _titles(file)]
    assert len(titles) > 300
    assert [title for title, count in Counter(titles).items() if count > 1 or not title.strip()] == []
