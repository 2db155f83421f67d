"""The collector of cycles in the agent: never in the way.

A full collection looks at everything that lives. With 10,000 clusters that is more than a million objects, 0.2 s in which
nobody gets an answer, and a large push sets off several (measured: they were the longest halts of `/ready`, up to 1.6 s on
a busy machine). What the agent holds lives long and has no cycles. So whatever has survived two young collections,
a few milliseconds each, is put aside (`gc.freeze`), where no later one looks at it. What has become garbage there, such as a
connection of the admin API that was open just then, is looked for once an hour.
"""

import gc
from typing import Any

import trio

YOUNG_OBJECTS = 10_000
YOUNG_COLLECTIONS = 5
SWEEP_INTERVAL_S = 3600.0
_NEVER = 1 << 30


class Collector:
    """See the module. Takes over the interpreter's collector until `close`."""

    def __init__(self) -> None:
        self._before = gc.get_threshold()
        gc.set_threshold(YOUNG_OBJECTS, YOUNG_COLLECTIONS, _NEVER)
        gc.callbacks.append(self._collected)
        gc.freeze()

    def __repr__(self) -> str:
        return f"<Collector {gc.get_freeze_count()} objects aside>"

    async def run(self, agent: object = None) -> None:
        """Look everywhere once an hour."""
        while True:
            await trio.sleep(SWEEP_INTERVAL_S)
            self.sweep()

    def sweep(self) -> None:
        """Look everywhere now."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()

    def close(self) -> None:
        gc.callbacks.remove(self._collected)
        gc.set_threshold(*self._before)
        gc.unfreeze()

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "stop" and info["generation"] == 1:
            gc.freeze()
