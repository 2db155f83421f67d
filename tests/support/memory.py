"""What processes hold and have used, as /proc tells it."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Use:
    """One process. `resident_bytes` counts shared pages whole, `share_bytes` divides them among those who share them."""

    pid: int
    name: str
    resident_bytes: int
    share_bytes: int
    cpu_s: float


def use_of(pid: int) -> Use:
    """Raises OSError if the process is gone."""
    folder = Path(f"/proc/{pid}")
    sizes = {}
    for line in (folder / "smaps_rollup").read_text().splitlines()[1:]:
        key, _, rest = line.partition(":")
        sizes[key] = int(rest.split()[0]) * 1024
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Use(pid, (folder / "comm").read_text().strip(), sizes["Rss"], sizes["Pss"], ticks / os.sysconf("SC_CLK_TCK"))
