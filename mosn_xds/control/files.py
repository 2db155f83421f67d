"""Resources from a watched file (`path_config_source`): a `DiscoveryResponse` as YAML, JSON or, named ``.pb``, bytes.

The file is looked at twice a second and read when it is another one (editors and ConfigMaps replace files, so it is the
path that counts, not the inode). What it says goes the way of any state-of-the-world response. There is nobody to
answer: a file that cannot be read, or is refused, is logged, and what was good stays.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import trio
import yaml
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import message

from mosn_xds.base.errors import ConfigError
from mosn_xds.base.file_mark import FileMark, file_mark
from mosn_xds.control.ads.client import Judge
from mosn_xds.control.ads.events import Ignored, Response, Variant
from mosn_xds.control.ads.protocol import AdsProtocol
from mosn_xds.control.ads.resource_types import RESOURCE_TYPES, ResourceType
from mosn_xds.control.bootstrap.reading import prepare
from mosn_xds.xds.messages import parse_json

POLL_S = 0.5

_log = logging.getLogger("mosn_xds.ads")


class FileSource:
    """See the module; a `needs.Subscriber`. `run` watches until cancelled."""

    def __init__(self, source: str, path: str, judge: Judge) -> None:
        self._source = source
        self._path = path
        self._judge = judge
        # The stream's machine knows which names are wanted and which are not; its requests go nowhere.
        self._protocol = AdsProtocol(Variant.SOTW, discovery_pb2.DiscoveryRequest().node)
        self._mark: FileMark | None = None
        self._news = trio.Event()
        self.last_error = ""

    def __repr__(self) -> str:
        return f"<FileSource {self._path}{' ' + self.last_error if self.last_error else ''}>"

    def subscribe(self, kind: ResourceType) -> None:
        self._protocol.subscribe(kind)
        self._read_anew()

    def change(self, kind: ResourceType, add: Iterable[str], remove: Iterable[str]) -> None:
        self._protocol.subscribe(kind, add)
        self._protocol.unsubscribe(kind, remove)
        self._read_anew()

    def ask_again(self, kind: ResourceType) -> None:
        """A file is always complete."""

    def _read_anew(self) -> None:
        self._mark = None
        self._news.set()
        self._news = trio.Event()

    async def run(self) -> None:
        while True:
            mark = file_mark(self._path)
            if mark is not None and mark != self._mark:
                self._mark = mark
                await self._load()
            with trio.move_on_after(POLL_S):
                await self._news.wait()

    async def _load(self) -> None:
        try:
            response = read_response(Path(self._path))
        except ConfigError as error:
            self.last_error = str(error)
            _log.warning("%s: %s", self._path, error)
            return
        self.last_error = ""
        for event in self._protocol.received(response.SerializeToString()):
            if isinstance(event, Response):
                verdict = await self._judge(self._source, event)
                self._protocol.accept(event)
                self.last_error = verdict.reason or ""
            elif isinstance(event, Ignored):
                continue  # nobody wants this type from here yet
            else:
                self.last_error = event.reason
        self._protocol.data_to_send()
        if self.last_error:
            _log.warning("%s: %s", self._path, self.last_error)


def read_response(path: Path) -> discovery_pb2.DiscoveryResponse:
    """What a file says. Its type is that of its resources. Raises ConfigError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"unable to read file: {error.strerror}") from None
    if path.suffix == ".pb":
        try:
            response = discovery_pb2.DiscoveryResponse.FromString(content)
        except message.DecodeError as error:
            raise ConfigError(f"not a DiscoveryResponse: {error}") from None
    else:
        response = _from_text(content)
    kinds = {resource.type_url for resource in response.resources} or {response.type_url}
    if len(kinds) > 1 or not kinds <= RESOURCE_TYPES.keys():
        raise ConfigError(f"resources of one known type are expected, not {sorted(kinds)}")
    (response.type_url,) = kinds
    return response


def _from_text(content: bytes) -> Any:
    try:
        fields = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise ConfigError("a DiscoveryResponse is expected: version_info, resources")
    found, unknown = parse_json(discovery_pb2.DiscoveryResponse, prepare(fields))
    for field in unknown:
        _log.warning("no such field: %s", field)
    return found
