"""Every field of every Spec is read by who serves: what the agent accepts and nobody looks at would be ignored in silence.

Names are looked for in the sources: a field counts as read where any attribute of its name is. So a field may escape whose
name something else has as well; none that has a name of its own does.
"""

import ast
import importlib
import pkgutil
from pathlib import Path

import msgspec

import mosn_xds
import mosn_xds.spec

ROOT = Path(mosn_xds.__file__).parent

READ_ELSEWHERE = {
    ("Listener", "route_tables"): "the agent: what a listener waits for",
    ("RouteAction", "metadata_match"): "subsets; reported",
    ("WeightedCluster", "metadata_match"): "subsets; reported",
    ("IstioStatsFilter", "reporter_gateway"): "Istio's metrics; reported",
    ("Certificate", "ocsp_staple"): "reported",
}


def names_read() -> set[str]:
    """Attributes that the data half, the processes and the admin API look at; and the Specs' own methods."""
    found: set[str] = set()
    for package in ("data", "process", "admin", "spec"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute):
                    found.add(node.attr)
                elif isinstance(node, ast.MatchClass):
                    found.update(node.kwd_attrs)
    return found


def fields() -> set[tuple[str, str]]:
    """(Spec, field), but for the feed's messages, which are taken apart by position."""
    found = set()
    for info in pkgutil.iter_modules(mosn_xds.spec.__path__):
        module = importlib.import_module(f"mosn_xds.spec.{info.name}")
        for kind in vars(module).values():
            own = isinstance(kind, type) and kind.__module__ == module.__name__ and info.name != "feed"
            if own and issubclass(kind, msgspec.Struct):
                found |= {(kind.__name__, field.name) for field in msgspec.structs.fields(kind)}
    return found


def test_what_the_agent_says_is_looked_at() -> None:
    read = names_read()
    unread = {(kind, name) for kind, name in fields() if name not in read}
    assert unread - READ_ELSEWHERE.keys() == set()
