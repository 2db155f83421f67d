"""How many workers to run when nobody says: what this process may really use of the machine.

The affinity mask counts the CPUs that the scheduler may pick; a cgroup's quota (Kubernetes' CPU limit) may allow less
time than that, and is rounded up. A sidecar without a quota sits beside the application it serves, and takes two at most.
"""

import math
import os
from pathlib import Path

_SIDECAR = "sidecar~"
_SIDECAR_WORKERS = 2


def default_concurrency(node_id: str, *, cgroup_root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> int:
    """The default of `--concurrency` for a node of this id."""
    cpus = len(os.sched_getaffinity(0))
    quota = cpu_quota(cgroup_root, proc)
    if quota is not None:
        return max(1, min(cpus, math.ceil(quota)))
    if node_id.startswith(_SIDECAR):
        return min(cpus, _SIDECAR_WORKERS)
    return cpus


def cpu_quota(cgroup_root: Path, proc: Path) -> float | None:
    """CPUs' worth of time that this process' cgroup, or one above it, allows; None without a limit. Versions 2 and 1."""
    quotas = []
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += [_quota_v2(folder) for folder in _upwards(cgroup_root, path)]
        elif "cpu" in controllers.split(","):
            # In a container the path is often the host's, while the mount shows the container's own group at its root.
            quotas += [_quota_v1(folder) for folder in _upwards(cgroup_root / "cpu", path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _upwards(root: Path, path: str) -> list[Path]:
    folder = root / path.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _quota_v1(folder: Path) -> float | None:
    quota = _read(folder / "cpu.cfs_quota_us").strip()
    period = _read(folder / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # no such group or controller: no limit
        return ""
