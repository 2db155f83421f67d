"""A Pilot that can be killed: ``python -m tests.e2e.load_pilot PORT FOLDER`` serves the files of FOLDER, which it watches."""

import sys
import time
from pathlib import Path

from mosn_xds.pilot import Pilot, ResourceSet
from mosn_xds.pilot.directory import Directory

LOOK_EVERY_S = 0.05


def main(port: int, folder: Path) -> None:
    directory = Directory(folder)
    directory.read()
    resources = ResourceSet()
    resources.replace(directory.resources())
    pilot = Pilot(resources, f"127.0.0.1:{port}")  # not before: one with nothing would say that everything is gone
    while True:
        time.sleep(LOOK_EVERY_S)
        if directory.read():
            pilot.resources.replace(directory.resources())


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
