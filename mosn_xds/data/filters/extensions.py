"""Stream filters of somebody else's: found by entry point, configured by JSON.

The agent has asked the same class about the same options before (`mosn_xds.spec.extensions`), so an error here means that
agent and worker do not see the same packages, or that the class fails when an object is made of it.

A worker looks through what is installed once, when the first such filter is asked for: that takes milliseconds, and a mesh
has thousands of chains.
"""

from collections.abc import Iterable
from importlib.metadata import EntryPoint

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.filters.api import FilterContext, StreamFilter
from mosn_xds.spec.extensions import STREAM_FILTERS, Extensions
from mosn_xds.spec.filters import ExtensionFilter


class ExtensionFilters:
    """Those that one worker may build.

    `found` are the entry points to look through; those of the installed packages when None.
    """

    __slots__ = ("_found", "_known")

    def __init__(self, found: Iterable[EntryPoint] | None = None) -> None:
        self._found = found
        self._known: Extensions | None = None

    def build(self, spec: ExtensionFilter, context: FilterContext) -> StreamFilter:
        """The filter that `spec` names. Raises ConfigError."""
        known = self._known
        if known is None:
            known = self._known = Extensions(STREAM_FILTERS, self._found)
        kind = known.load(spec.entry)
        if not issubclass(kind, StreamFilter):
            raise ConfigError(f"{STREAM_FILTERS}: {spec.entry}: {kind.__qualname__} is no StreamFilter")
        return kind(kind.decode_options(spec.config), context)

    def __repr__(self) -> str:
        return f"<ExtensionFilters {self._known or 'not looked for yet'}>"
