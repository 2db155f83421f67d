"""The default of --concurrency."""

import os
from pathlib import Path

import pytest

from mosn_xds.process.cpus import cpu_quota, default_concurrency


def make_v2(folder: Path, limits: dict[str, str], group: str) -> tuple[Path, Path]:
    proc = folder / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text(f"0::{group}\n")
    root = folder / "cgroup"
    for path, limit in limits.items():
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / path / "cpu.max").write_text(limit)
    return root, proc


@pytest.mark.parametrize(
    ("limits", "quota"),
    [
        ({"": "max 100000\n"}, None),
        ({"pod/app": "150000 100000\n"}, 1.5),
        ({"pod/app": "max 100000\n", "pod": "50000 100000\n"}, 0.5),
        ({"pod/app": "200000 100000\n", "pod": "400000 100000\n"}, 2.0),
        ({}, None),
    ],
)
def test_quota_is_the_smallest_on_the_way_to_the_root(
    tmp_path: Path, limits: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(*make_v2(tmp_path, limits, "/pod/app")) == quota


def test_quota_of_cgroup_version_1(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/kubepods/x\n3:cpu,cpuacct:/kubepods/x\n")
    folder = tmp_path / "cgroup/cpu"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("250000")
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "proc") == 2.5
    (folder / "cpu.cfs_quota_us").write_text("-1")
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "proc") is None


@pytest.mark.parametrize(
    ("cpus", "limit", "node", "workers"),
    [
        (16, "150000 100000", "sidecar~1.2.3.4~x~y", 2),
        (16, "500000 100000", "sidecar~1.2.3.4~x~y", 5),
        (16, "max 100000", "sidecar~1.2.3.4~x~y", 2),
        (16, "max 100000", "router~1.2.3.4~x~y", 16),
        (1, "max 100000", "sidecar~1.2.3.4~x~y", 1),
        (2, "800000 100000", "", 2),
        (4, "10000 100000", "", 1),
    ],
)
def test_workers_by_affinity_quota_and_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int, limit: str, node: str, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)))
    root, proc = make_v2(tmp_path, {"": limit}, "/")
    assert default_concurrency(node, cgroup_root=root, proc=proc) == workers
