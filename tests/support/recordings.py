"""Reads the recorded istiod sessions of `tests/recordings`: as messages, or as the resources that were received."""

import base64
import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent / "recordings"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of one response: `raw` is the Any's value, as received."""

    scenario: str
    message: int
    type_url: str
    name: str
    raw: bytes


def sessions(kind: str = "delta") -> list[Path]:
    """The files of all sessions, `kind` ``delta`` or ``sotw``."""
    return sorted(ROOT.glob(f"*/*{kind}.jsonl.gz"))


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        for line in file:
            yield json.loads(line)


def resources(path: Path) -> Iterator[Resource]:
    """All resources of a delta or state-of-the-world session, in order, repetitions included."""
    from envoy.service.discovery.v3 import discovery_pb2

    for number, line in enumerate(lines(path)):
        if line.get("dir") != "received":
            continue
        payload = base64.b64decode(line["b64"])
        if line["message"] == "DeltaDiscoveryResponse":
            delta = discovery_pb2.DeltaDiscoveryResponse.FromString(payload)
            for item in delta.resources:
                yield Resource(path.parent.name, number, item.resource.type_url, item.name, item.resource.value)
        else:
            for any_ in discovery_pb2.DiscoveryResponse.FromString(payload).resources:
                yield Resource(path.parent.name, number, any_.type_url, "", any_.value)


if __name__ == "__main__":
    for session in sessions():
        if session.parent.name in sys.argv[1:]:
            for resource in resources(session):
                print(
                    session.name,
                    resource.message,
                    resource.type_url.rpartition(".")[2],
                    resource.name,
                    len(resource.raw),
                )
