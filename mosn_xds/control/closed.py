"""Listeners that own their address and serve nobody: what stands in for one that is refused, or warms for the first time.

A listener that Pilot sent and that cannot serve must not simply be missing: its connections would fall to whoever takes
the rest (a virtual listener's to the catch-all of the capture port, a bound one's to a wildcard of the same port), past
every filter that was meant for them. In its place stands one that closes each connection, with the reason.
"""

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
from envoy.config.listener.v3 import listener_pb2
from google.protobuf import message

from mosn_xds.control.slots import Slot
from mosn_xds.control.store import Record
from mosn_xds.control.translate.model import Translated
from mosn_xds.spec.common import Address
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.snapshot import digest, encode

_WILDCARDS = ("0.0.0.0", "::")


def stand_ins(slots: Mapping[str, Slot], records: Iterable[Record[Translated]]) -> list[Listener]:
    """What owns the addresses of the listeners in `records` that have never served; `slots` are all listeners by name."""
    serving = [slot.active.product.spec for slot in slots.values() if slot.active is not None]
    others = [spec for spec in serving if isinstance(spec, Listener)]
    found = []
    for record in records:
        slot = slots.get(record.key.name)
        if slot is not None and slot.active is not None:
            continue
        spec: Listener | None = None
        if slot is not None and slot.candidate is not None:
            warming = slot.candidate.product.spec
            if isinstance(warming, Listener):
                spec = closed(warming, f"warming, waits for {', '.join(slot.waits_for)}")
        elif record.refusal is not None:
            spec = closed_from_bytes(record.key.name, record.refusal.raw, f"refused: {record.refusal}")
        if spec is not None and needs_an_owner(spec, others):
            found.append(spec)
    return found


def closed(spec: Listener, reason: str) -> Listener:
    """`spec` on the same sockets, without anything that serves."""
    shut = msgspec.structs.replace(
        spec, chains=(), default_chain=None, listener_filters=(), route_tables=(), closed_reason=reason
    )
    return msgspec.structs.replace(shut, base_uid=digest(encode(shut)))


def closed_from_bytes(name: str, raw: bytes, reason: str) -> Listener | None:
    """For a listener that could not be translated: what can be read of its addresses; None if nothing can."""
    try:
        found = listener_pb2.Listener.FromString(raw)
    except message.DecodeError:
        return None
    candidates = [found.address, *(additional.address for additional in found.additional_addresses)]
    addresses = tuple(address for address in map(_read, candidates) if address is not None)
    if not addresses:
        return None
    bind = not found.HasField("bind_to_port") or found.bind_to_port.value
    reuse_port = not found.HasField("enable_reuse_port") or found.enable_reuse_port.value
    shut = Listener(
        name,
        addresses,
        bind_to_port=bind,
        reuse_port=reuse_port,
        socket_uid=digest(encode((addresses, reuse_port))),
        closed_reason=reason,
    )
    return msgspec.structs.replace(shut, base_uid=digest(encode(shut)))


def needs_an_owner(spec: Listener, others: Collection[Listener]) -> bool:
    """Whether connections to `spec`'s addresses would fall to another listener if nobody owned them."""
    if not spec.bind_to_port:
        return True
    ports = {address.port for address in spec.addresses}
    return any(
        address.host in _WILDCARDS and address.port in ports
        for other in others
        if other.bind_to_port and other.name != spec.name
        for address in other.addresses
    )


def _read(address: Any) -> Address | None:
    if address.WhichOneof("address") != "socket_address":
        return None
    socket_address = address.socket_address
    try:
        return Address(str(ipaddress.ip_address(socket_address.address)), socket_address.port_value)
    except ValueError:
        return None
