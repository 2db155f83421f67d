"""The proxy with other engines: one without the collector that can be asked what it holds, and one that crashes.

``python -m tests.e2e.load_engine ENGINE FOLDER mosn-xds-proxy OPTIONS...``

A `CountingEngine` that is told to reopen its logs (SIGUSR1) writes the number of its objects by type to FOLDER/PID.json:
what is in cycles is counted as well as what is in use. While FOLDER/crash exists a `CrashingEngine` of worker 0 dies by
SIGSEGV so many seconds after each generation as the file says; 0 is before it serves.
"""

import gc
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from mosn_xds.data.engine import Engine

_FOLDER = "FOLDER_OF_WORKERS"


class CountingEngine(Engine):
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


class CrashingEngine(Engine):
    def publish(self, generation: int) -> None:
        flag = Path(os.environ[_FOLDER], "crash")
        if self.context.settings.worker == 0 and flag.exists():
            delay_s = float(flag.read_text())
            if not delay_s:
                _crash()
            self.context.reactor.timers.arm(delay_s, _crash)
        super().publish(generation)


def _crash() -> None:
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # no stacks: this one is on purpose
    os.kill(os.getpid(), signal.SIGSEGV)


def main(engine: str, folder: str, command_line: list[str]) -> int:
    from mosn_xds.cli.proxy import parse
    from mosn_xds.process.main import run

    os.environ[_FOLDER] = folder
    return run(replace(parse(command_line[1:]), engine=f"tests.e2e.load_engine:{engine}"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
