"""docs/testing.md: the case of the page is a case, and every path that pages name exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_pages_case_holds_for_both_proxies(tmp_path: Path) -> None:
    found = re.search(r"^```python\n# (\S+)\n(.*?)^```$", (ROOT / "docs" / "testing.md").read_text(), re.M | re.S)
    assert found
    (tmp_path / found[1]).write_text(found[2])
    fixtures = ", ".join(("pair", "pair_of_module", "port_allocator"))
    (tmp_path / "conftest.py").write_text(f"from tests.differential.conftest import {fixtures}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", found[1]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "1 skipped" in done.stdout:
        pytest.skip(done.stdout)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    paths = re.findall(r"\b((?:mosn_xds|tests|docs|bench)/[\w/.-]*\w)", text)
    missing += [path for path in paths if not (ROOT / path).exists() and not (ROOT / f"{path}.py").exists()]
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    missing += [f"make {target}" for target in re.findall(r"`make (\w+)`", text) if target not in targets]
    assert missing == []
