"""The proxy with the real engine, whose workers write down what they hold and have imported each time they swap.

``python -m tests.process.spying_engine FOLDER COMMAND_LINE...``
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from mosn_xds.data.engine import Engine as RealEngine
from mosn_xds.spec.feed import Drop, Put
from mosn_xds.spec.snapshot import Kind

FOLDER = "MODULES_OF_WORKERS"


class Engine(RealEngine):
    def stage(self, message: Put | Drop) -> None:
        super().stage(message)
        if isinstance(message, Put) and message.item.kind is Kind.LISTENER:
            self.listeners = {*getattr(self, "listeners", ()), message.item.name}

    def publish(self, generation: int) -> None:
        super().publish(generation)
        found = {"listeners": sorted(getattr(self, "listeners", ())), "modules": sorted(sys.modules)}
        path = Path(os.environ[FOLDER], f"{os.getpid()}.json")
        path.with_suffix(".new").write_text(json.dumps(found))
        path.with_suffix(".new").rename(path)


def main(folder: str, command_line: list[str]) -> int:
    from mosn_xds.cli.proxy import parse
    from mosn_xds.process.main import run

    os.environ[FOLDER] = folder
    return run(replace(parse(command_line), engine="tests.process.spying_engine:Engine"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
