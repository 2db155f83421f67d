"""Run mutants: ``python -m tests.mutation.run [TABLE ...] [-k WORD] [--jobs N]``.

The package is copied once, so that sources which change meanwhile do not matter. Unmutated, every case must pass. Then each
mutant is put into a copy of its own, the proxy is started from there (the interpreter finds the copy first, by
PYTHONPATH), and the cases that the mutant names are run by our proxy alone, with the canary behind them: their own
assertions must fail, without Envoy to compare with, and the canary must pass. Of a case with parameters one set must fail.
One mutant at a time in each proxy: what a case fails by is never in doubt.
"""

import argparse
import compileall
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from tests.differential.pair import PROXIES
from tests.mutation.mutant import PACKAGE, Mutant
from tests.mutation.table import Table, cases_of, load_tables

ROOT = PACKAGE.parent
CASE_TIMEOUT_S = 40


@dataclass
class Ran:
    """What pytest said: tests by case. `trouble` is why there is nothing to say."""

    passed: dict[str, set[str]] = field(default_factory=dict)
    failed: dict[str, set[str]] = field(default_factory=dict)
    errors: set[str] = field(default_factory=set)
    trouble: str = ""


@dataclass(frozen=True)
class Verdict:
    """What came of one mutant. `trouble` is empty when it did what it is for; `failed` are tests, parameters and all."""

    table: Table
    mutant: Mutant
    failed: frozenset[str]
    survived_by: tuple[str, ...]
    trouble: str
    took_s: float

    @property
    def noticed_by(self) -> set[str]:
        """The cases that failed as they should."""
        return set() if self.trouble else set(self.mutant.cases) - set(self.survived_by)


class Runner:
    """Copies of the package in `folder`, and pytest on them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parsing = threading.Lock()
        """ast counts its recursion once for all threads (CPython 3.11): two that parse at a time can fail."""
        self._base = folder / "base"
        shutil.copytree(PACKAGE, self._base / PACKAGE.name, ignore=shutil.ignore_patterns("*.pyc.*"))
        compileall.compile_dir(self._base, quiet=2)

    def plain(self, table: Table) -> Ran:
        """All cases of the table's module, unmutated."""
        return self._pytest(table, (), self._base, self._folder / f"{table.name}.xml")

    def judge(self, table: Table, mutant: Mutant, *, tries: int = 2) -> Verdict:
        """Run the mutant's cases; again if they did not say what they should, as what is sent in pieces may be read in one
        by a proxy that had to wait for its turn. Raises Rotten."""
        verdict = self._judge_once(table, mutant)
        while tries > 1 and (verdict.trouble or verdict.survived_by):
            tries -= 1
            verdict = self._judge_once(table, mutant)
        return verdict

    def _judge_once(self, table: Table, mutant: Mutant) -> Verdict:
        started = time.monotonic()
        canary = table.canary_of(mutant)
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            copy = Path(name)
            self._mutate(mutant, copy)
            proxies = ("envoy", "mosn-xds") if mutant.beside_envoy else ("mosn-xds",)
            ran = self._pytest(table, (*mutant.cases, canary), copy, copy / "report.xml", proxies)
        trouble = ran.trouble
        if not trouble and ran.errors:
            trouble = "the proxy does not start"
        elif not trouble and (ran.failed.get(canary) or not ran.passed.get(canary)):
            trouble = f"the canary {canary} fails as well"
        failed = frozenset(test for case in mutant.cases for test in ran.failed.get(case, ()))
        survived_by = tuple(case for case in mutant.cases if not ran.failed.get(case))
        return Verdict(table, mutant, failed, survived_by, trouble, time.monotonic() - started)

    def _mutate(self, mutant: Mutant, copy: Path) -> None:
        shutil.copytree(self._base, copy, dirs_exist_ok=True, copy_function=os.link)
        with self._parsing:
            sources = mutant.sources(self._base / PACKAGE.name)
        for path, text in sources.items():
            file = copy / PACKAGE.name / path
            file.unlink()  # a link: the base keeps its own
            for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
                compiled.unlink()
            file.write_text(text)

    def _pytest(
        self, table: Table, cases: Sequence[str], package: Path, report: Path, proxies: Sequence[str] = ("mosn-xds",)
    ) -> Ran:
        targets = [f"{table.file}::{case}" for case in cases] or [str(table.file)]
        options = [
            "-c",
            str(ROOT / "setup.cfg"),
            "--rootdir",
            str(ROOT),
            "-p",
            "no:hypothesispytest",
            f"--timeout={CASE_TIMEOUT_S}",
        ]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                *options,
                f"--junitxml={report}",
                "--basetemp",
                report.with_suffix(".tmp"),
                *targets,
            ],
            cwd=package,
            env={**os.environ, "PYTHONPATH": str(package), PROXIES: ",".join(proxies)},
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.exists() or done.returncode not in (0, 1):
            return Ran(trouble=f"pytest exits with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
        return _read(report)


def _read(report: Path) -> Ran:
    ran = Ran()
    for element in ET.parse(report).iter("testcase"):
        test = element.get("name", "")
        case = test.partition("[")[0]
        if element.find("error") is not None:
            ran.errors.add(test)
        elif element.find("failure") is not None:
            ran.failed.setdefault(case, set()).add(test)
        elif element.find("skipped") is None:
            ran.passed.setdefault(case, set()).add(test)
    return ran


def main() -> int:
    """Run what the arguments name. Returns the exit status: 0 when each mutant was noticed by each of its cases."""
    parser = argparse.ArgumentParser(description="Each differential case must fail when its behaviour is switched off.")
    known = load_tables()
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="names of tables, all by default")
    parser.add_argument("-k", dest="word", default="", help="only mutants whose name or a case of which holds this")
    parser.add_argument("--jobs", type=int, default=3, help="mutants at a time")
    parser.add_argument("--without-plain", action="store_true", help="do not run the cases unmutated first")
    parser.add_argument("--tests", action="store_true", help="list the sets of parameters that pass under all mutants")
    arguments = parser.parse_args()
    if unknown := set(arguments.tables) - {table.name for table in known}:
        parser.error(f"no table {', '.join(sorted(unknown))}; there are {', '.join(table.name for table in known)}")
    console = Console(highlight=False, markup=False)
    tables = [table for table in known if not arguments.tables or table.name in arguments.tables]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        runner = Runner(Path(folder))
        plain = [] if arguments.without_plain else list(zip(tables, pool.map(runner.plain, tables), strict=True))
        work = [
            (table, mutant)
            for table in tables
            for mutant in table.mutants
            if any(arguments.word in text for text in (mutant.name, *mutant.cases))
        ]
        verdicts = []
        try:
            for verdict in pool.map(lambda item: runner.judge(*item), work):
                verdicts.append(verdict)
                console.print(_line(verdict), soft_wrap=True)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # what runs was interrupted as well, and stops its proxies
            raise
    bad = [line for table, ran in plain for line in _plain_trouble(table, ran)]
    for line in bad:
        console.print(line, soft_wrap=True)
    if arguments.tests:
        for table, ran in plain:
            failed = {test for verdict in verdicts if verdict.table is table for test in verdict.failed}
            for test in sorted({test for tests in ran.passed.values() for test in tests} - failed):
                console.print(f"passes always {table.name}: {test}", soft_wrap=True)
    console.print(_summary(tables, verdicts))
    console.print(f"{len(verdicts)} mutants in {time.monotonic() - started:.0f} s")
    return 1 if bad or any(verdict.trouble or verdict.survived_by for verdict in verdicts) else 0


def _plain_trouble(table: Table, ran: Ran) -> list[str]:
    broken = sorted({*ran.errors, *(test for tests in ran.failed.values() for test in tests)})
    return [f"FAILS UNMUTATED {table.name}: {what}" for what in ([ran.trouble] if ran.trouble else broken)]


def _line(verdict: Verdict) -> str:
    head = f"{verdict.table.name}: {verdict.mutant.name}: {verdict.took_s:.1f} s"
    if verdict.trouble:
        return f"TROUBLE  {head}: {verdict.trouble}"
    if verdict.survived_by:
        return f"SURVIVES {head}: {' '.join(verdict.survived_by)}"
    return f"noticed  {head}: {len(verdict.failed)} tests of {len(verdict.mutant.cases)} cases fail"


def _summary(tables: Sequence[Table], verdicts: Sequence[Verdict]) -> Grid:
    grid = Grid("module", "cases", "proved", "tests that failed", "mutants", "s")
    for column in grid.columns:
        column.no_wrap = True
        column.justify = "left" if column is grid.columns[0] else "right"
    sums = [0, 0, 0, 0, 0.0]
    for table in tables:
        own = [verdict for verdict in verdicts if verdict.table is table]
        proved = {case for verdict in own for case in verdict.noticed_by}
        tests = {test for verdict in own for test in verdict.failed}
        row = [len(cases_of(table.file)), len(proved), len(tests), len(own), sum(verdict.took_s for verdict in own)]
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        grid.add_row(table.name, *(f"{value:.0f}" for value in row))
    grid.add_section()
    grid.add_row("all", *(f"{value:.0f}" for value in sums))
    return grid


if __name__ == "__main__":
    sys.exit(main())
