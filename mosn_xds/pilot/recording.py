"""A recorded ADS session, to be served again: what istiod sent, push by push, in the steps that were marked.

A recording is JSON lines (maybe gzipped): ``{"t", "dir", "message", "type_url", "b64"}`` for a message and
``{"t", "mark"}`` before a step. Only what was received is used; the order of pushes inside a step is kept, and so is that
they name resources whose bytes have not changed.
"""

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

from mosn_xds.base.errors import ConfigError
from mosn_xds.pilot.resources import NAME_FIELDS, WILDCARD_TYPES, Change, ResourceSet
from mosn_xds.xds.messages import message_class


@dataclass(slots=True)
class Step:
    """The pushes after one mark; the first step has no mark."""

    mark: str
    changes: list[Change] = field(default_factory=list)


def read_recording(path: Path) -> list[Step]:
    """All steps of a recording. Raises ConfigError for a line that is none of its messages."""
    steps = [Step("")]
    held: dict[str, set[str]] = {}
    for number, line in enumerate(_lines(path), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            raise ConfigError("not JSON", path=f"{path.name}:{number}") from None
        if not isinstance(entry, dict):
            raise ConfigError("no message of a stream", path=f"{path.name}:{number}")
        if "mark" in entry:
            steps.append(Step(entry["mark"]))
        elif entry.get("dir") == "received":
            steps[-1].changes.append(_change(entry, held))
    return steps


def _lines(path: Path) -> Iterator[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        yield from file


def _change(entry: dict[str, Any], held: dict[str, set[str]]) -> Change:
    raw = base64.b64decode(entry["b64"])
    if entry["message"] == "DeltaDiscoveryResponse":
        delta = discovery_pb2.DeltaDiscoveryResponse.FromString(raw)
        upserts = {resource.name: resource.resource.value for resource in delta.resources}
        return Change(delta.type_url, delta.system_version_info, upserts, frozenset(delta.removed_resources))
    response = discovery_pb2.DiscoveryResponse.FromString(raw)
    type_url = response.type_url
    upserts = {name_of(type_url, resource.value): resource.value for resource in response.resources}
    removed: frozenset[str] = frozenset()
    if type_url in WILDCARD_TYPES:
        removed = frozenset(held.get(type_url, set()) - upserts.keys())
        held[type_url] = set(upserts)
    return Change(type_url, response.version_info, upserts, removed)


def name_of(type_url: str, raw: bytes) -> str:
    """The name that a resource's bytes hold."""
    found = message_class(type_url)
    if found is None:
        raise ConfigError(f"unknown type {type_url!r}")
    return str(getattr(found.FromString(raw), NAME_FIELDS.get(type_url, "name")))


class Replay:
    """Serves a recording through `resources`, a step at a time."""

    def __init__(self, steps: list[Step], resources: ResourceSet) -> None:
        self._steps = steps
        self._resources = resources
        self.position = 0

    def __repr__(self) -> str:
        return f"<Replay {self.position}/{len(self._steps)}>"

    @property
    def done(self) -> bool:
        return self.position >= len(self._steps)

    def advance(self) -> Step:
        """Make the next step; returns it. Raises IndexError after the last."""
        step = self._steps[self.position]
        self.position += 1
        for change in step.changes:
            self._resources.apply([change])
        return step
