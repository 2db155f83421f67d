"""Packages of somebody else's, as `pip install` would leave them, for whoever has their folder on the path."""

import os
from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path,
    modules: Mapping[str, str],
    entry_points: Mapping[str, Mapping[str, str]],
    *,
    name: str = "acme",
    version: str = "1.0",
) -> dict[str, str]:
    """Write `modules` (file name to text) and what announces `entry_points` (group to name to place) into `folder`.

    Returns the environment that makes them importable in a process of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in modules.items():
        (folder / file).write_text(text)
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{key} = {place}" for key, place in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
