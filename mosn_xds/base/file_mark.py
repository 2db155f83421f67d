"""How a watched file is known to be another one, without reading it.

It is the path that counts: editors, ConfigMaps and pilot-agent put a new file in the old one's place, which shows in the
inode even where time and size are the same.
"""

import os

FileMark = tuple[int, int, int]


def file_mark(path: str | os.PathLike[str]) -> FileMark | None:
    """Differs when the file behind `path` was written or replaced; None while there is none that can be looked at."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
