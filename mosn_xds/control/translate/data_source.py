"""core.DataSource: bytes in place, in a file or in the environment.

What a file holds is read when the configuration is translated, as Envoy reads it, and the report remembers which files
that were: a translation that read files is not remembered by the bytes of its configuration alone. Errors name the place
and the file, never the content, which may be a private key.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from mosn_xds.control.translate.take import Take

INLINE = "<inline>"
LIMIT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Data:
    """What a data source holds. `shown` is the file's name, or what Envoy's texts say instead."""

    content: bytes
    shown: str

    def __repr__(self) -> str:
        return f"<Data {self.shown} {len(self.content)} bytes>"


def take_data(parent: Take, name: str) -> Data | None:
    """The source in the field `name`; None when absent. Raises ConfigError for what cannot be read, or is empty."""
    take = parent.child(name)
    if take is None:
        return None
    data = read_data(take)
    if not data.content:
        raise take.error("", "DataSource cannot be empty")
    return data


def read_data(take: Take) -> Data:
    """See `take_data`."""
    if take.has("watched_directory"):
        take.child("watched_directory")  # the files of secrets are watched anyhow, those of others never, as in Envoy
    if take.has("filename"):
        path = take.text("filename")
        return Data(_read(take, path), path)
    if take.has("inline_bytes"):
        return Data(take.raw("inline_bytes"), INLINE)
    if take.has("environment_variable"):
        variable = take.text("environment_variable")
        value = os.environ.get(variable)
        if value is None:
            raise take.error("environment_variable", f"Environment variable doesn't exist: {variable}")
        return Data(value.encode(), INLINE)
    return Data(take.text("inline_string").encode(), INLINE)


def _read(take: Take, path: str) -> bytes:
    take.report.files[path] = None
    try:
        with Path(path).open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise take.error("filename", f"unable to read file '{path}': {error.strerror}") from None
    if len(content) > LIMIT_BYTES:
        raise take.error("filename", f"file '{path}' is larger than {LIMIT_BYTES} bytes")
    return content
