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

_LOG = b"/tmp/mosn-xds-access.log"
_LOG_HERE = b"./mosn-xds-access-24.log"
assert len(_LOG) == len(_LOG_HERE)


def at_home(raw: bytes) -> bytes:
    """A recorded resource whose access log, if it has one in a file, is in the current folder: tests write nowhere else."""
    return raw.replace(_LOG, _LOG_HERE)


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
                raw = at_home(item.resource.value)
                yield Resource(path.parent.name, number, item.resource.type_url, item.name, raw)
        else:
            for any_ in discovery_pb2.DiscoveryResponse.FromString(payload).resources:
                yield Resource(path.parent.name, number, any_.type_url, "", at_home(any_.value))


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
