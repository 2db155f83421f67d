"""The tables of mutants: each can be made of the sources as they are, and each differential case has one."""

import pytest

from tests.mutation.mutant import Rotten
from tests.mutation.table import GROWING, WITHOUT_TABLE, Table, cases_of, load_tables, modules_of_cases

TABLES = load_tables()
MUTANTS = [(table, mutant) for table in TABLES for mutant in table.mutants]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_mutants_can_be_made(table: Table) -> None:
    rotten = []
    for mutant in table.mutants:
        try:
            mutant.trees()
        except Rotten as error:
            rotten.append(str(error))
    assert rotten == []


@pytest.mark.parametrize(
    "table", [table for table in TABLES if table.name not in GROWING], ids=lambda table: table.name
)
def test_every_case_has_a_mutant(table: Table) -> None:
    without = [case for case in cases_of(table.file) if case not in table.covered()]
    assert not without, f"say in tests/mutation/tables/{table.name}.py what switches off the behaviour of these cases"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_names_cases_that_are_there(table: Table) -> None:
    canaries = {table.canary_of(mutant) for mutant in table.mutants}
    assert (table.covered() | canaries) - set(cases_of(table.file)) == set()
    names = [mutant.name for mutant in table.mutants]
    assert len(names) == len(set(names))


def test_a_canary_is_not_one_of_the_cases_that_must_fail() -> None:
    assert [mutant.name for table, mutant in MUTANTS if table.canary_of(mutant) in mutant.cases] == []


def test_modules_without_a_table_are_listed() -> None:
    tables = {table.name for table in TABLES}
    unknown = [name for name in modules_of_cases() if name not in tables and name not in WITHOUT_TABLE]
    assert not unknown, "give these modules a table in tests/mutation/tables, or name them in WITHOUT_TABLE"
    assert not tables & set(WITHOUT_TABLE)
