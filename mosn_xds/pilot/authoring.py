"""Resources from Python: messages of envoy-data-plane (typed dataclasses) or of xds-protos, served as they are.

>>> serve(resources, Cluster(name="books", ...), RouteConfiguration(name="shop", ...))
"""

from typing import Any

from mosn_xds.pilot.resources import NAME_FIELDS, PREFIX, Change, ResourceSet

_AUTHORED = "envoy_data_plane."


def resource_of(message: Any) -> tuple[str, str, bytes]:
    """Type URL, name and bytes of a message. Raises ValueError for one without a name."""
    descriptor = getattr(message, "DESCRIPTOR", None)
    if descriptor is not None:
        full_name, raw = descriptor.full_name, message.SerializeToString(deterministic=True)
    else:
        # envoy-data-plane keeps the proto package as the module path.
        cls = type(message)
        full_name, raw = f"{cls.__module__.removeprefix(_AUTHORED)}.{cls.__name__}", bytes(message)
    type_url = PREFIX + full_name
    name = getattr(message, NAME_FIELDS.get(type_url, "name"), "")
    if not name:
        raise ValueError(f"{full_name} without a name")
    return type_url, str(name), raw


def serve(resources: ResourceSet, *messages: Any) -> list[Change]:
    """Serve exactly `messages`; only what differs from before is pushed. Returns what was."""
    found: dict[str, dict[str, bytes]] = {}
    for message in messages:
        type_url, name, raw = resource_of(message)
        found.setdefault(type_url, {})[name] = raw
    return resources.replace(found)
