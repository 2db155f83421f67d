"""Running mutants: what is noticed, what survives, and what is no proof."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutation.mutant import Returns, mutant
from tests.mutation.run import Runner
from tests.mutation.table import load_tables


def test_a_mutant_is_noticed_or_survives_or_proves_nothing(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    table = next(table for table in load_tables() if table.name == "paths")
    case = "test_slashes_are_merged"
    real = mutant("slashes stay", Returns("data.proxy.path:merge_slashes", "path"), case)
    harmless = mutant("a text is empty", Returns("data.proxy.path:PathPolicy.__repr__", "''"), case)
    deadly = mutant("no request is read", Returns("data.proxy.path:PathPolicy.apply", "1 / 0"), case)
    with ThreadPoolExecutor(3) as pool:
        noticed, survived, dead = pool.map(lambda one: runner.judge(table, one, tries=1), (real, harmless, deadly))
    assert (noticed.trouble, noticed.survived_by, noticed.noticed_by) == ("", (), {case})
    # Of its five sets of parameters, two hold nothing to merge.
    assert len(noticed.failed) == 3
    assert (survived.trouble, survived.survived_by, survived.noticed_by) == ("", (case,), set())
    assert dead.trouble == f"the canary {table.canary} fails as well"
    assert dead.noticed_by == set()
