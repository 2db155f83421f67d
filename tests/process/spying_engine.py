"""The proxy with the real engine, whose workers write down what they have imported each time they swap.

``python -m tests.process.spying_engine FOLDER COMMAND_LINE...``
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from mosn_xds.data.engine import Engine as RealEngine

FOLDER = "MODULES_OF_WORKERS"


class Engine(RealEngine):
    def publish(self, generation: int) -> None:
        super().publish(generation)
        Path(os.environ[FOLDER], str(os.getpid())).write_text("\n".join(sorted(sys.modules)))


def main(folder: str, command_line: list[str]) -> int:
    from mosn_xds.cli.proxy import parse
    from mosn_xds.process.main import run

    os.environ[FOLDER] = folder
    return run(replace(parse(command_line), engine="tests.process.spying_engine:Engine"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
