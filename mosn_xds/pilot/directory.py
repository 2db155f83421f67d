"""Resources from a directory of YAML files, read again when a file changes.

A file holds one resource, a list of them, or ``resources:`` with a list; each is proto JSON with ``"@type"``, as in an
Envoy bootstrap. A file that cannot be read is reported with its place and the last good content of it stays.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format

from mosn_xds.base.errors import ConfigError
from mosn_xds.pilot.resources import NAME_FIELDS, PREFIX
from mosn_xds.xds.messages import message_class

_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class _File:
    stamp: tuple[int, int]
    resources: dict[str, dict[str, bytes]]
    problem: str | None


class Directory:
    """The files under `path`. `problems` names each file that is not served as it stands, with the reason."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[Path, _File] = {}

    def __repr__(self) -> str:
        return f"<Directory {self._path} {len(self._files)} files>"

    @property
    def problems(self) -> dict[str, str]:
        return {str(path): file.problem for path, file in self._files.items() if file.problem is not None}

    def read(self) -> bool:
        """Look at the files again; True if any has changed since the last call. Raises OSError without the directory."""
        paths = [path for path in sorted(self._path.iterdir()) if path.suffix in _SUFFIXES]
        found = {path: stamp for path in paths if (stamp := _stamp(path)) is not None}
        changed = found.keys() != self._files.keys()
        files: dict[Path, _File] = {}
        for path, stamp in found.items():
            held = self._files.get(path)
            if held is not None and held.stamp == stamp:
                files[path] = held
                continue
            changed = True
            try:
                files[path] = _File(stamp, load_file(path), None)
            except (ConfigError, OSError) as error:
                files[path] = _File(stamp, held.resources if held is not None else {}, str(error))
        self._files = files
        return changed

    def resources(self) -> dict[str, dict[str, bytes]]:
        """Everything served, by type and name. A name that two files define is the later file's."""
        merged: dict[str, dict[str, bytes]] = {}
        for file in self._files.values():
            for type_url, found in file.resources.items():
                merged.setdefault(type_url, {}).update(found)
        return merged


def _stamp(path: Path) -> tuple[int, int] | None:
    """None for a file that is gone: editors write another one and rename it."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


def load_file(path: Path) -> dict[str, dict[str, bytes]]:
    """The resources of one file, by type and name. Raises ConfigError with the place in the file."""
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}", path=path.name) from None
    if content is None:
        return {}
    if isinstance(content, Mapping) and "resources" in content:
        content = content["resources"]
    entries = content if isinstance(content, list) else [content]
    found: dict[str, dict[str, bytes]] = {}
    for position, entry in enumerate(entries):
        where = f"{path.name}[{position}]"
        try:
            type_url, name, raw = encode_resource(entry, where)
        except RecursionError:
            raise ConfigError(
                "nested too deeply", path=where, hint="is there an alias inside its own anchor?"
            ) from None
        found.setdefault(type_url, {})[name] = raw
    return found


def encode_resource(entry: Any, where: str) -> tuple[str, str, bytes]:
    """Type URL, name and bytes of one resource given as proto JSON with ``"@type"``. Raises ConfigError."""
    if not isinstance(entry, Mapping):
        raise ConfigError("a resource is a mapping", path=where, hint='with "@type", as in an Envoy bootstrap')
    fields = dict(entry)
    type_url = str(fields.pop("@type", ""))
    found = message_class(type_url)
    if found is None:
        raise ConfigError(f"unknown type {type_url!r}", path=where, hint='every resource starts with "@type"')
    _import_types(fields)
    try:
        message = json_format.ParseDict(fields, found())
    except (json_format.ParseError, TypeError, ValueError) as error:
        raise ConfigError(str(error), path=where) from None
    type_url = PREFIX + found.DESCRIPTOR.full_name
    name = getattr(message, NAME_FIELDS.get(type_url, "name"), "")
    if not name:
        raise ConfigError("the resource has no name", path=where)
    return type_url, name, message.SerializeToString(deterministic=True)


def _import_types(value: Any) -> None:
    """The types of inner Anys must be known before proto JSON is parsed."""
    if isinstance(value, Mapping):
        type_url = value.get("@type")
        if isinstance(type_url, str):
            message_class(type_url)
        for inner in value.values():
            _import_types(inner)
    elif isinstance(value, list):
        for inner in value:
            _import_types(inner)
