"""Extensions by entry point: the one door to them, through which both halves look.

A package makes an extension known by an entry point, whose name is what the configuration calls it and whose target is a
subclass of `Extension`. Its `Options` say what may be configured. The agent asks them before it tells Pilot that a
resource is good, and looks at nothing else of the class; workers make objects of it. So a wrong option is refused with
its path, where somebody reads it, and cannot be found out later by a worker, when the resource has long been accepted.

This module knows no kind of extension in particular: a kind is an entry point group, and a base class that names it.
"""

import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import ClassVar

import msgspec

from mosn_xds.base.errors import ConfigError

STREAM_FILTERS = "mosn_xds.stream_filters"
"""The entry point group of HTTP filters."""
PROTOCOLS = "mosn_xds.protocols"
"""The entry point group of RPC protocols."""


class ExtensionOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what an extension can be configured with: fields are options, an unknown option is an error.

    What no type can say is checked in ``__post_init__``, which raises ValueError.
    """


class Extension:
    """Base of what entry points lead to; see the module."""

    GROUP: ClassVar[str] = ""
    """The entry point group of this kind."""
    Options: ClassVar[type[ExtensionOptions]] = ExtensionOptions
    """The type that the configuration's JSON is decoded into."""
    RouteOptions: ClassVar[type[ExtensionOptions] | None] = None
    """The same for `typed_per_filter_config`; None: a route says what the chain may say, and says all of it."""

    @classmethod
    def decode_options(cls, config: bytes, *, of_route: bool = False) -> ExtensionOptions:
        """What `config`, JSON, says. Raises ConfigError with the path of what is wrong inside of it."""
        expected = (cls.RouteOptions if of_route else None) or cls.Options
        try:
            return msgspec.json.decode(config or b"{}", type=expected)
        except msgspec.DecodeError as error:
            fields = ", ".join(field.encode_name for field in msgspec.structs.fields(expected))
            path, reason = _explained(str(error))
            hint = f"the options of {cls.__name__}: {fields}" if fields else f"{cls.__name__} has no options"
            raise ConfigError(reason, path=path, hint=hint) from None


class Extensions:
    """The installed extensions of one group. Classes are loaded at first use.

    `found` are the entry points to look through; those of the installed packages when None.
    """

    def __init__(self, group: str, found: Iterable[EntryPoint] | None = None) -> None:
        self.group = group
        self._entries: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=group) if found is None else found:
            self._entries.setdefault(entry.name, []).append(entry)
        self._loaded: dict[str, type[Extension]] = {}

    def __repr__(self) -> str:
        return f"<Extensions {self.group}: {', '.join(sorted(self._entries)) or 'none'}>"

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def how_to_get(self, name: str) -> str:
        """A hint for whoever asks for one that is not installed."""
        names = ", ".join(sorted(self._entries)) or "none"
        return f"installed: {names}; any package that has an entry point {self.group}: {name} brings it"

    def load(self, name: str) -> type[Extension]:
        """The class behind an entry point. Raises ConfigError where there is none, or more than one, or no good one."""
        found = self._loaded.get(name)
        if found is None:
            found = self._loaded[name] = self._load(name)
        return found

    def _load(self, name: str) -> type[Extension]:
        entries = self._entries.get(name, [])
        if not entries:
            raise ConfigError(f"{self.group}: no entry point {name}", hint=self.how_to_get(name))
        if len(entries) > 1:
            places = ", ".join(sorted(entry.value for entry in entries))
            raise ConfigError(f"{self.group}: more than one {name}: {places}", hint="uninstall all but one")
        place = f"{self.group}: {name} = {entries[0].value}"
        try:
            kind = entries[0].load()
        except Exception as error:  # an extension's call: whatever its module does wrong costs who asks for it
            raise ConfigError(f"{place} cannot be loaded: {type(error).__name__}: {error}") from error
        if not (isinstance(kind, type) and issubclass(kind, Extension) and self.group == kind.GROUP):
            raise ConfigError(f"{place} is no class of that kind", hint="docs/extending.md names its base class")
        return kind


_PLACE = re.compile(r" - at `\$\.?(.*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`$")


def _explained(complaint: str) -> tuple[str, str]:
    """Path and reason of a decoder's ``Expected `int`, got `str` - at `$.limits[0].rate```."""
    place = _PLACE.search(complaint)
    path, reason = (place[1], complaint[: place.start()]) if place is not None else ("", complaint)
    unknown = _UNKNOWN.match(reason)
    if unknown is not None:
        path = f"{path}.{unknown[1]}" if path else unknown[1]
    return path, reason
