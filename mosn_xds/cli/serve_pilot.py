"""What `mosn-xds pilot` does: serve a directory and look again when files change, or serve a recording step by step."""

import contextlib
import time
from pathlib import Path

import click

from mosn_xds.pilot import Pilot, ResourceSet
from mosn_xds.pilot.directory import Directory
from mosn_xds.pilot.recording import Replay, read_recording
from mosn_xds.xds.messages import type_label

_LOOK_AGAIN_S = 0.3


def serve_directory(path: Path, listen: str) -> None:
    """Until interrupted. What clients refuse is logged by the Pilot. Raises OSError for a port that is taken."""
    directory = Directory(path)
    directory.read()
    resources = ResourceSet()
    resources.replace(directory.resources())
    pilot = Pilot(resources, listen)
    click.echo(f"serving {path} over ADS on {listen}: {resources!r}")
    _tell_problems(directory)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(_LOOK_AGAIN_S)
                if directory.read():
                    _tell_problems(directory)
                    for change in resources.replace(directory.resources()):
                        kind = type_label(change.type_url)
                        click.echo(
                            f"pushed {kind}: {len(change.upserts)} new or changed, {len(change.removed)} removed"
                        )
    finally:
        pilot.stop()


def _tell_problems(directory: Directory) -> None:
    for file, problem in directory.problems.items():
        click.echo(f"{file} is not served as it stands: {problem}", err=True)


def serve_recording(path: Path, listen: str, interval_s: float | None) -> None:
    """Until interrupted, also after the last step. Raises OSError, ConfigError."""
    resources = ResourceSet()
    replay = Replay(read_recording(path), resources)
    pilot = Pilot(resources, listen)
    click.echo(f"serving {path} over ADS on {listen}")
    try:
        with contextlib.suppress(KeyboardInterrupt, EOFError):
            while not replay.done:
                step = replay.advance()
                click.echo(f"step {replay.position}: {step.mark or 'the beginning'}, {len(step.changes)} pushes")
                if interval_s is not None:
                    time.sleep(interval_s)
                elif not replay.done:
                    input("Enter for the next step ")
            click.echo("the recording is over; what it ended with is served on")
            while True:
                time.sleep(1)
    finally:
        pilot.stop()
