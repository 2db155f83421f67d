"""Secrets whose certificates or keys stand in files: the files are watched, and a changed one is read again.

What a secret names by `filename` is not in its bytes, so nothing that the server says can tell that it changed. The files
are looked at twice a second (kubelets replace whole directories behind a symbolic link, people copy over; it is what is at
the path that counts). A new content goes the way of any secret: one that is broken, or a key that does not fit its
certificate yet, is refused and logged, and what was good stays.
"""

import logging
from collections.abc import Iterator
from typing import Any

import trio
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf.message import DecodeError

from mosn_xds.base.file_mark import FileMark, file_mark
from mosn_xds.control.ads.resource_types import SDS
from mosn_xds.control.intake import Intake
from mosn_xds.control.store import Record, ResourceKey, ResourceStore
from mosn_xds.control.translate.model import Translated
from mosn_xds.xds.messages import message_class

POLL_S = 0.5

_log = logging.getLogger("mosn_xds.control")
_Marks = tuple[FileMark | None, ...]


class SecretFiles:
    """See the module. `run` watches until cancelled."""

    def __init__(self, store: ResourceStore[Translated], intake: Intake[Translated]) -> None:
        self._store = store
        self._intake = intake
        self._watched: dict[ResourceKey, tuple[bytes, _Marks]] = {}
        self._news = trio.Event()

    def __repr__(self) -> str:
        return f"<SecretFiles of {len(self._watched)} secrets>"

    def wake(self) -> None:
        """A secret has changed: it may name files. Without any there is nothing to look at, and nobody who does."""
        self._news.set()

    async def run(self) -> None:
        while True:
            if not self._watched:
                await self._news.wait()
            self._news = trio.Event()
            await trio.sleep(POLL_S)
            self.look()

    def look(self) -> None:
        """Read again what changed since the last look."""
        watched: dict[ResourceKey, tuple[bytes, _Marks]] = {}
        changed = []
        for record in self._store.of_type(SDS.url):
            raw = _latest(record)
            paths = files_of(raw) if raw else ()
            if raw is None or not paths:
                continue
            marks = tuple(map(file_mark, paths))
            watched[record.key] = (raw, marks)
            before = self._watched.get(record.key)
            read_at = record.updated_at or 0.0
            is_other = before != (raw, marks) if before is not None else any(m and m[0] > read_at * 1e9 for m in marks)
            if is_other and (before is None or before[0] == raw):  # other bytes were read when they came
                changed.append(record.key)
        self._watched = watched
        for key in changed:
            refusal = self._intake.read_again(key)
            if refusal is None:
                _log.info("secret %s was read again from its files", key.name)
            else:
                _log.warning("secret %s cannot be used as its files are now: %s", key.name, refusal)


def _latest(record: Record[Translated]) -> bytes | None:
    if record.refusal is not None:
        return record.refusal.raw
    return record.good.raw if record.good is not None else None


def files_of(raw: bytes) -> tuple[str, ...]:
    """The files that a serialised Secret names; none for what is no Secret."""
    try:
        secret = secret_pb2.Secret.FromString(raw)
    except DecodeError:
        return ()
    return tuple(_filenames(secret))


def _filenames(message: Any) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for one in value if field.is_repeated else (value,):
            if field.message_type.full_name == "google.protobuf.Any":
                yield from _filenames(_unpacked(one))
            elif field.message_type.full_name == "envoy.config.core.v3.DataSource":
                if one.WhichOneof("specifier") == "filename":
                    yield one.filename
            else:
                yield from _filenames(one)


def _unpacked(packed: Any) -> Any:
    """What an Any holds: a validator's configuration names files, too. Itself if it is not known."""
    kind = message_class(packed.type_url)
    try:
        return packed if kind is None else kind.FromString(packed.value)
    except DecodeError:
        return packed
