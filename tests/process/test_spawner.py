"""The spawner as a process of its own."""

import select
import socket
import subprocess
import sys

import msgspec

from mosn_xds.base.log import Level, LogSettings
from mosn_xds.process.spawner import SpawnerSettings


def test_spawner_ends_quietly_with_an_agent_that_never_listened() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    settings = SpawnerSettings("tests.process.echo_engine:Engine", LogSettings(level=Level.OFF))
    with ours, theirs:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mosn_xds.process.spawner"),
                str(theirs.fileno()),
                msgspec.json.encode(settings).decode(),
            ],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
        )
        # It has said that it is ready, and nobody reads it.
        assert select.select([ours], [], [], 20)[0]
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (0, b"")
