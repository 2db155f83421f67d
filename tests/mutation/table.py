"""The tables of mutants, one for each module of differential cases, and the names of the cases themselves.

`tables/paths.py` is the table of `tests/differential/test_paths.py`: its `MUTANTS`, and its `CANARY`, a case that passes
under all of them (a mutant for which that is not so `spares` another).
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.mutation.mutant import Mutant

DIFFERENTIAL = Path(__file__).parent.parent / "differential"

WITHOUT_TABLE: tuple[str, ...] = (
    "generic_proxy_access_log",
    "grpc_web",
    "http2_alpn",
    "http2_both_sides",
    "http2_bridge",
    "http2_conformance",
    "http2_downstream",
    "http2_floods",
    "proxy_protocol",
    "stats_config",
    "tls_chains",
)
"""Modules of cases that have no table yet."""

GROWING: tuple[str, ...] = ()
"""Modules to which cases are being added: their tables may lag behind. Take out what has come to rest."""


@dataclass(frozen=True)
class Table:
    """The mutants for one module of cases; `name` without ``test_``."""

    name: str
    mutants: Sequence[Mutant]
    canary: str

    @property
    def file(self) -> Path:
        """The module of cases."""
        return DIFFERENTIAL / f"test_{self.name}.py"

    def canary_of(self, mutant: Mutant) -> str:
        """The case that must pass under this mutant."""
        return mutant.spares or self.canary

    def covered(self) -> set[str]:
        """The cases that some mutant names."""
        return {case for mutant in self.mutants for case in mutant.cases}


def load_tables() -> list[Table]:
    """Every table, by name."""
    names = sorted(path.stem for path in (Path(__file__).parent / "tables").glob("*.py"))
    modules = [(name, import_module(f"tests.mutation.tables.{name}")) for name in names]
    return [Table(name, module.MUTANTS, module.CANARY) for name, module in modules]


def modules_of_cases() -> list[str]:
    """The names of all modules in tests/differential that hold cases, without ``test_``."""
    return sorted(path.stem.removeprefix("test_") for path in DIFFERENTIAL.glob("test_*.py") if cases_of(path))


def cases_of(file: Path) -> list[str]:
    """The functions that `@case` makes tests of, in order. The module is read, not run."""
    return [
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and any(_is_case(decorator) for decorator in node.decorator_list)
    ]


def _is_case(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "case"
