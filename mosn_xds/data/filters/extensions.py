"""Stream filters of somebody else's: found by entry point, configured by JSON, each mistake one clear error."""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

import msgspec

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.filters.api import FilterContext, StreamFilter
from mosn_xds.spec.filters import ExtensionFilter

ENTRY_POINT_GROUP = "mosn_xds.stream_filters"


def load_filter(
    spec: ExtensionFilter, context: FilterContext, found: Iterable[EntryPoint] | None = None
) -> StreamFilter:
    """The filter that `spec` names. Raises ConfigError.

    `found` are the entry points to look through; those of the installed packages when None.
    """
    name = spec.entry
    entries = [e for e in (entry_points(group=ENTRY_POINT_GROUP) if found is None else found) if e.name == name]
    if not entries:
        raise ConfigError(f"no stream filter {name!r}", hint=f"install a package with such a {ENTRY_POINT_GROUP}")
    if len(entries) > 1:
        places = ", ".join(sorted(entry.value for entry in entries))
        raise ConfigError(f"more than one stream filter {name!r}: {places}", hint="uninstall all but one")
    try:
        kind = entries[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"stream filter {name!r} cannot be loaded: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, StreamFilter)):
        raise ConfigError(f"stream filter {name!r}: {entries[0].value} is no StreamFilter")
    try:
        options = msgspec.json.decode(spec.config or b"{}", type=kind.Options)
    except msgspec.DecodeError as error:
        raise ConfigError(f"stream filter {name!r}: {error}", path="config") from error
    return kind(options, context)
