"""Stream filters of somebody else's: found by entry point, configured by JSON.

The agent has asked the same class about the same options before (`mosn_xds.spec.extensions`), so an error here means that
agent and worker do not see the same packages, or that the class fails when an object is made of it.
"""

from collections.abc import Iterable
from importlib.metadata import EntryPoint

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.filters.api import FilterContext, StreamFilter
from mosn_xds.spec.extensions import STREAM_FILTERS, Extensions
from mosn_xds.spec.filters import ExtensionFilter


def load_filter(
    spec: ExtensionFilter, context: FilterContext, found: Iterable[EntryPoint] | None = None
) -> StreamFilter:
    """The filter that `spec` names. Raises ConfigError.

    `found` are the entry points to look through; those of the installed packages when None.
    """
    kind = Extensions(STREAM_FILTERS, found).load(spec.entry)
    if not issubclass(kind, StreamFilter):
        raise ConfigError(f"{STREAM_FILTERS}: {spec.entry}: {kind.__qualname__} is no StreamFilter")
    return kind(kind.decode_options(spec.config), context)
