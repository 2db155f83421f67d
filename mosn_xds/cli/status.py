"""How `mosn-xds status` looks: tables on a terminal, plain rows elsewhere (a table would cut names at 80 columns)."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def is_fine(state: dict[str, Any]) -> bool:
    """Live, nothing refused, nothing warming or awaited, all workers there."""
    return (
        state["state"] == "LIVE"
        and not state["refused"]
        and not state["worker_refusals"]
        and all(entry["status"] == "acked" for entry in state["resources"])
        and all(worker["pid"] for worker in state["workers"])
    )


def show(state: dict[str, Any], *, unread: bool) -> None:
    """Print the state."""
    streams = [
        (s["source"], "connected" if s["connected"] else "not connected", s["last_error"]) for s in state["streams"]
    ]
    workers = [
        (str(w["slot"]), str(w["pid"] or "-"), w["state"], str(w["generation"]), str(w["restarts"]))
        for w in state["workers"]
    ]
    resources = [
        (e["type"], e["name"], e["status"], e["version"], str(len(e.get("unread", ()))), _reason(e))
        for e in state["resources"]
    ]
    _print(f"state: {state['state']}", [], [])
    _print("streams", ["source", "state", "last error"], streams)
    _print("workers", ["slot", "pid", "state", "generation", "restarts"], workers)
    static = [(e["type"], e["name"]) for e in state["bootstrap"]["static"]]
    if static:
        _print("static resources, of the bootstrap", ["type", "name"], static)
    if resources or not static:
        _print("resources", ["type", "name", "status", "version", "unread", "why"], resources)
    refusals = [
        (e["type"], e["name"], "its last good serves" if e["serving_last_good"] else "does not serve", e["reason"])
        for e in state["worker_refusals"]
    ]
    if refusals:
        _print("refused by workers", ["type", "name", "effect", "why"], refusals)
    if unread:
        _print("fields without effect", ["type", "resource", "field"], _findings(state, "unread"))
        _print("warnings", ["type", "resource", "warning"], _findings(state, "warnings"))


def _findings(state: dict[str, Any], key: str) -> list[tuple[str, str, str]]:
    found = [("Bootstrap", "", text) for text in state["bootstrap"][key]]
    return found + [(e["type"], e["name"], text) for e in state["resources"] for text in e.get(key, ())]


def _reason(entry: dict[str, Any]) -> str:
    refusal = entry.get("refusal")
    return str(refusal["reason"]) if refusal else ""


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not sys.stdout.isatty():
        print(title)
        for row in rows:
            print("  " + "\t".join(row))
        return
    console = Console()
    if not columns:
        console.print(f"[bold]{escape(title)}[/]")
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
