"""What every demo stands on: a folder, and processes that end with it, whatever happens."""

import contextlib
from pathlib import Path
from typing import Self


class Stage:
    """A demo while it runs: what `_start` has put on the stack is gone after the block, also where starting fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        raise NotImplementedError
