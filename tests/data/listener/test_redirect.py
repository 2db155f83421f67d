"""A sidecar's capture, end to end: redirected connections reach the listener, or the address, that they were meant for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.proxies import ProxyKind

ROOT = Path(__file__).parents[3]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip", "iptables"))),
        reason="needs root, iptables and network namespaces",
    ),
]

EXPECTED = """\
10.11.12.13:80: service
10.11.12.13:81: any address, port 81
10.11.12.14:81: any address, port 81
10.11.12.14:82: passed through to 82
10.11.12.14:80: passed through to 80
10.11.12.14:8080: inbound 8080
10.11.12.14:8081: inbound other
"""


@pytest.mark.parametrize("kind", [pytest.param(ProxyKind.ENVOY, marks=pytest.mark.envoy), ProxyKind.OURS])
def test_redirected_connections_reach_what_they_were_meant_for(kind: ProxyKind, tmp_path: Path) -> None:
    command = ["unshare", "-n", sys.executable, "-m", "tests.data.listener.redirected", kind.value, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.stdout == EXPECTED, done.stderr
