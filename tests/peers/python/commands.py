"""The commands that a client takes from stdin, a JSON object per line; see tests/peers/node/client.js."""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Lock, Thread
from typing import Any

SERVICE = "org.mosnxds.peers.Echo"
SERVICES = (SERVICE, "org.mosnxds.peers.Hurried", "org.mosnxds.peers.First")
VERSION = "1.0"
Call = Callable[[dict[str, Any], list[Any]], Any]


def serve(peer: str, call: Call) -> None:
    """Answer commands, side by side, until stdin ends; `call` makes one call and returns its value or raises."""
    _say({"ready": peer})
    for line in sys.stdin:
        command = json.loads(line)
        Thread(target=lambda command=command: _say(_run(call, command)), daemon=True).start()


def announce(port: int, name: str) -> None:
    """The first line of a server, which ends when its stdin does: nobody is left who wants it."""
    Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    _say({"listening": port, "name": name})


def _say(line: dict[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")  # in one piece


def _run(call: Call, command: dict[str, Any]) -> dict[str, Any]:
    times = command.get("times", 1)
    concurrency = min(command.get("concurrency", 1), times)
    size = command.get("size")
    values: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    tally = Counter(ok=0, wrong=0)
    lock = Lock()
    indexes = count()

    def work() -> None:
        while (index := next(indexes)) < times:
            args = command.get("args", []) if size is None else [_text(index, size)]
            try:
                value = call(command, args)
            except Exception as error:
                with lock:
                    errors[f"{type(error).__name__}: {error}"] += 1
                continue
            with lock:
                if size is None:
                    tally["ok"] += 1
                    shown = str(value)
                    values[f"{len(shown)} characters" if len(shown) > 200 else shown] += 1
                else:
                    tally["ok" if value == args[0] else "wrong"] += 1

    start = time.monotonic()
    with ThreadPoolExecutor(concurrency) as pool:
        for done in [pool.submit(work) for _ in range(concurrency)]:
            done.result()
    elapsed_ms = round((time.monotonic() - start) * 1000)
    return {"id": command["id"], **tally, "values": values, "errors": errors, "elapsed_ms": elapsed_ms}


def _text(index: int, size: int) -> str:
    mark = f"{index}:"
    return mark + "y" * max(0, size - len(mark))
