"""The proxy with the real engine, whose workers run without the collector and can be asked what they hold.

``python -m tests.e2e.load_engine FOLDER mosn-xds-proxy OPTIONS...``. Told to reopen its logs (SIGUSR1), a worker writes
the number of its objects by type to FOLDER/PID.json: what is in cycles is counted as well as what is in use.
"""

import gc
import json
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from mosn_xds.data.engine import Engine as RealEngine

_FOLDER = "OBJECTS_OF_WORKERS"


class Engine(RealEngine):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        gc.disable()
        # The worker freezes and enables it after each generation.
        gc.enable = gc.freeze = lambda: None

    def reopen_logs(self) -> None:
        counts = Counter(f"{type(found).__module__}.{type(found).__qualname__}" for found in gc.get_objects())
        path = Path(os.environ[_FOLDER], f"{os.getpid()}.json")
        path.with_suffix(".new").write_text(json.dumps(counts))
        path.with_suffix(".new").replace(path)


def main(folder: str, command_line: list[str]) -> int:
    from mosn_xds.cli.proxy import parse
    from mosn_xds.process.main import run

    os.environ[_FOLDER] = folder
    return run(replace(parse(command_line[1:]), engine="tests.e2e.load_engine:Engine"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
