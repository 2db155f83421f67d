"""What a process tree costs: CPU time from /proc/PID/stat, memory from /proc/PID/smaps_rollup.

CPU is utime + stime of every process of the tree; the kernel scales the two so that their sum is exact to a tick (10 ms).
Proportional set size counts a page that N processes share 1/N times, so that the sum over a tree is what it really uses.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds, user and system, that these processes have used so far; those that ended count nothing."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            # The name in parentheses may hold blanks; utime and stime are the 12th and 13th field behind it.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def memory_mib(pids: Iterable[int]) -> float:
    """Proportional set size of these processes together."""
    kib = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
    return kib / 1024


def processor_name() -> str:
    """The processor as /proc/cpuinfo names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
