"""HTTP filters of other packages: the filter's class says, before Pilot gets its ACK, whether its options are good.

Their configuration is JSON, whether it came so or a translator made it. Workers decode it once more, into objects.
"""

from typing import Any

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.take import Take
from mosn_xds.spec.filters import ExtensionFilter
from mosn_xds.xds.messages import config_json


def take_extension_filter(
    take: Take, context: Context, key: str, any_message: Any, entry: str, *, of_route: bool = False
) -> ExtensionFilter:
    """The filter behind `entry`, configured by an Any that stands at `key` of `take`.

    Raises ConfigError for options that the filter does not take, and for bytes that nobody can read.
    """
    config = config_json(any_message)
    if config is None:
        raise take.error(
            key,
            f"no message {any_message.type_url.rpartition('/')[2]} is known",
            "send it as a xds.type.v3.TypedStruct",
        )
    return checked(take, context, key, ExtensionFilter(entry, config), of_route=of_route)


def checked(
    take: Take, context: Context, key: str, found: ExtensionFilter, *, of_route: bool = False
) -> ExtensionFilter:
    """`found`, which was configured at `key` of `take`. Raises ConfigError as above."""
    try:
        context.registry.stream_filters.load(found.entry).decode_options(found.config, of_route=of_route)
    except ConfigError as error:
        raise error.under(take.path(key)) from None
    return found
