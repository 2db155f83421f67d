"""A mutant: mosn-xds with one behaviour switched off in its sources, and the differential cases that must notice.

A case that passes whether or not its behaviour is there proves nothing. So for each case there is a mutant under which it
must fail. A mutant names a place by module and qualified name, never by line or layout, and says there what else the code
does: what a function returns, what an expression is, what a field of a Spec always holds. Changes are made to the
syntax tree, so comments and formatting do not matter; a place that is gone is a `Rotten` mutant, an error by name.

Nothing here runs anything: see run.py.
"""

import ast
import copy
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = Path(__file__).parent.parent.parent / "mosn_xds"


class Rotten(Exception):
    """A mutant's place is not in the sources any more; the text says which, and what to do."""


@dataclass(frozen=True)
class Edit:
    """One change at `place`: ``package.module:Qualified.name`` below mosn_xds (``module:`` is all of the module)."""

    place: str

    @property
    def path(self) -> str:
        """The file, relative to the package."""
        return self.place.partition(":")[0].replace(".", "/") + ".py"

    def apply(self, tree: ast.Module) -> None:
        """Change the tree of the module. Raises Rotten."""
        raise NotImplementedError

    def _find(self, tree: ast.Module, name: str) -> ast.AST:
        node: ast.AST = tree
        for part in name.split(".") if name else ():
            node = self._member(node, part)
        return node

    def _member(self, node: ast.AST, name: str) -> ast.AST:
        for child in ast.walk(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and child.name == name:
                return child
        raise Rotten(f"there is no {name} for {self.place}: name the place where it is now")


@dataclass(frozen=True)
class Returns(Edit):
    """The function does nothing but return `expression`, which may use its parameters."""

    expression: str = "None"

    def apply(self, tree: ast.Module) -> None:
        function = self._find(tree, self.place.partition(":")[2])
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            raise Rotten(f"{self.place} is no function")
        function.body = ast.parse(f"return {self.expression}").body


@dataclass(frozen=True)
class Swap(Edit):
    """Wherever `old` stands inside the place, as a whole expression or a whole statement, `new` stands instead."""

    old: str
    new: str

    def apply(self, tree: ast.Module) -> None:
        old: ast.AST = ast.parse(self.old).body[0]
        new: ast.AST = ast.parse(self.new).body[0]
        if isinstance(old, ast.Expr) and isinstance(new, ast.Expr):
            old, new = old.value, new.value
        swapper = _Swapper(old, new)
        place = self._find(tree, self.place.partition(":")[2])
        swapper.generic_visit(place)
        if not swapper.count:
            raise Rotten(f"{self.old!r} is not in {self.place}: say it as the code does now")


@dataclass(frozen=True)
class Fixed(Edit):
    """The field of a Spec (or the constant of a module) always holds `value`; the place ends in its name."""

    value: str

    def apply(self, tree: ast.Module) -> None:
        owner, _, name = self.place.partition(":")[2].rpartition(".")
        node = self._find(tree, owner)
        assignment = self._assignment(node, name)
        if isinstance(node, ast.ClassDef):
            self._fix(node, name, self._value(assignment))
        else:
            assignment.value = self._value(assignment)

    def _assignment(self, node: ast.AST, name: str) -> ast.Assign | ast.AnnAssign:
        for child in node.body if isinstance(node, ast.Module | ast.ClassDef) else ():
            if isinstance(child, ast.Assign | ast.AnnAssign):
                target = child.target if isinstance(child, ast.AnnAssign) else child.targets[0]
                if isinstance(target, ast.Name) and target.id == name:
                    return child
        raise Rotten(f"there is no {name} for {self.place}: name the field or constant as it is called now")

    def _value(self, assignment: ast.Assign | ast.AnnAssign) -> ast.expr:
        return ast.parse(self.value, mode="eval").body

    def _fix(self, owner: ast.ClassDef, name: str, value: ast.expr) -> None:
        # Specs are frozen structs; msgspec calls this for those that are made and for those that are decoded.
        text = f"__import__('msgspec').structs.force_setattr(self, {name!r}, {ast.unparse(value)})"
        for child in owner.body:
            if isinstance(child, ast.FunctionDef) and child.name == "__post_init__":
                child.body += ast.parse(text).body
                return
        owner.body += ast.parse(f"def __post_init__(self): {text}").body


@dataclass(frozen=True)
class Ignored(Fixed):
    """The field of a Spec always holds its default: what is configured there has no effect."""

    value: str = field(default="", init=False)

    def _value(self, assignment: ast.Assign | ast.AnnAssign) -> ast.expr:
        if assignment.value is None:
            raise Rotten(f"{self.place} has no default: say what it holds with Fixed")
        return assignment.value


class _Swapper(ast.NodeTransformer):
    """Replaces every node that is equal to `old`, and counts them."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old = ast.dump(old)
        self._type = type(old)
        self._new = new
        self.count = 0

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, self._type) and ast.dump(node) == self._old:
            self.count += 1
            return copy.deepcopy(self._new)
        return super().generic_visit(node)


@dataclass(frozen=True)
class Mutant:
    """`name` says what does not work; each of `cases` must fail. `spares` is a case that must pass nevertheless, so that a
    failure is the mutant's and not that of a proxy that is dead; None: the table's canary. `beside_envoy`: the cases say
    too much to say it themselves, so they may fail by the comparison alone."""

    name: str
    edits: tuple[Edit, ...]
    cases: tuple[str, ...]
    spares: str | None = None
    beside_envoy: bool = False

    def trees(self, package: Path = PACKAGE) -> dict[str, ast.Module]:
        """The changed modules by path below the package. Raises Rotten."""
        trees: dict[str, ast.Module] = {}
        for edit in self.edits:
            if edit.path not in trees:
                file = package / edit.path
                if not file.exists():
                    raise Rotten(f"{self.name!r}: there is no {edit.path}: name the module where {edit.place} is now")
                trees[edit.path] = ast.parse(file.read_text())
            try:
                edit.apply(trees[edit.path])
            except Rotten as error:
                raise Rotten(f"{self.name!r}: {error}") from None
        return trees

    def sources(self, package: Path = PACKAGE) -> dict[str, str]:
        """The text of those modules. Raises Rotten."""
        return {path: ast.unparse(ast.fix_missing_locations(tree)) for path, tree in self.trees(package).items()}


def mutant(
    name: str, edits: Edit | tuple[Edit, ...], *cases: str, spares: str | None = None, beside_envoy: bool = False
) -> Mutant:
    """A row of a table."""
    return Mutant(name, edits if isinstance(edits, tuple) else (edits,), cases, spares, beside_envoy)
