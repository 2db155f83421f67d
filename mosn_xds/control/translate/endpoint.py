"""Endpoints (envoy.config.endpoint.v3.ClusterLoadAssignment): from EDS, inline, or as names to resolve.

A locality is a part: its endpoints are translated once for their bytes, encoded once, and compared by digest ever after.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from mosn_xds.control.translate.common import raw_of, read_address, struct_value, take_metadata
from mosn_xds.control.translate.context import Context
from mosn_xds.control.translate.model import DnsHost, DnsLocality, make_locality
from mosn_xds.control.translate.take import Report, Take
from mosn_xds.spec.cluster import Endpoint, Endpoints, Health, Locality
from mosn_xds.spec.common import Address

_NOT_AN_IP = ". Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'"

H = TypeVar("H")


def take_endpoints(take: Take, context: Context) -> Endpoints:
    """A load assignment whose addresses are literal, as EDS and STATIC clusters need it."""
    name = take.text("cluster_name")
    localities = []
    for number, message in enumerate(take.messages("endpoints")):

        def make(report: Report, message: Any = message, number: int = number) -> Locality:
            above = f"ClusterLoadAssignmentValidationError.Endpoints[{number}]"
            context.validator.validate(message, above=above)
            return _take_locality(Take(message, report), context)

        locality = context.part(take, f"endpoints[{number}]", raw_of(message), "locality", make)
        localities.append(locality)
    return Endpoints(name, tuple(localities), _take_policy(take))


def take_dns_localities(take: Take, context: Context) -> tuple[tuple[DnsLocality, ...], int | None]:
    """A load assignment whose addresses may be names, and its overprovisioning factor."""
    take.skip("cluster_name")
    found = []
    for one in take.children("endpoints"):
        region, zone, sub_zone = _take_place(one)
        hosts = _take_hosts(one, context, _dns_host)
        found.append(DnsLocality(region, zone, sub_zone, one.integer("priority"),
                                 one.wrapped_integer("load_balancing_weight"), tuple(hosts)))  # fmt: skip
    return tuple(found), _take_policy(take)


def _take_policy(take: Take) -> int | None:
    policy = take.child("policy")
    return None if policy is None else policy.wrapped_integer("overprovisioning_factor")


def _take_locality(take: Take, context: Context) -> Locality:
    region, zone, sub_zone = _take_place(take)
    endpoints = _take_hosts(take, context, _literal_endpoint)
    weight = take.wrapped_integer("load_balancing_weight")
    return make_locality(region, zone, sub_zone, take.integer("priority"), weight, endpoints)


def _take_place(take: Take) -> tuple[str, str, str]:
    place = take.child("locality")
    if place is None:
        return "", "", ""
    return place.text("region"), place.text("zone"), place.text("sub_zone")


def _take_hosts(take: Take, context: Context, make: Callable[[Take, Endpoint], H]) -> list[H]:
    hosts = take.children("lb_endpoints")
    listed = take.child("load_balancer_endpoints")
    if listed is not None:
        hosts += listed.children("lb_endpoints")
    found = []
    for one in hosts:
        endpoint = one.child("endpoint")
        if endpoint is None:
            one.ignore("endpoint_name", "endpoints are given in place")
            continue
        weight = one.wrapped_integer("load_balancing_weight")
        metadata = _take_endpoint_metadata(one, context)
        template = Endpoint(
            _NOWHERE,
            1 if weight is None else weight,
            one.enum("health_status", Health),
            endpoint.text("hostname"),
            metadata.hash_key,
            metadata.transport,
            metadata.json,
        )
        found.append(make(endpoint, template))
    return found


_NOWHERE = Address("0.0.0.0")


def _literal_endpoint(take: Take, template: Endpoint) -> Endpoint:
    address = take.child("address")
    if address is None:
        raise take.error("address", "address is required")
    return Endpoint(
        read_address(address, _NOT_AN_IP),
        template.weight,
        template.health,
        template.hostname,
        template.hash_key,
        template.transport_metadata,
        template.metadata,
    )


def _dns_host(take: Take, template: Endpoint) -> DnsHost:
    address = take.child("address")
    sock = None if address is None else address.child("socket_address")
    if sock is None:
        raise take.error("address", "a cluster that is resolved by DNS needs socket addresses")
    name, port = sock.text("address"), sock.integer("port_value")
    if sock.text("resolver_name"):
        raise sock.error("resolver_name", "STRICT_DNS clusters must NOT have a custom resolver name set")
    if sock.integer("protocol"):
        raise sock.error("protocol", "UDP is not supported")
    if sock.has("named_port"):
        raise sock.error("named_port", "named ports are not supported", "give port_value")
    filled = Endpoint(
        Address(name, port),
        template.weight,
        template.health,
        template.hostname or name,
        template.hash_key,
        template.transport_metadata,
        template.metadata,
    )
    return DnsHost(name, port, filled)


class EndpointMetadata(msgspec.Struct, frozen=True):
    """What balancing and transport need of an endpoint's metadata, and all of it as JSON."""

    json: bytes = b""
    hash_key: str = ""
    transport: tuple[tuple[str, str], ...] = ()


_NO_METADATA = EndpointMetadata()
_TRANSPORT_MATCH = "envoy.transport_socket_match"


def _take_endpoint_metadata(take: Take, context: Context) -> EndpointMetadata:
    message = take.left.get("metadata")
    if message is None:
        return _NO_METADATA
    raw = raw_of(message)
    known = context.endpoint_metadata.get(raw)
    if known is not None:
        take.skip("metadata")
        return known
    fields = message.filter_metadata
    hash_key = ""
    if "envoy.lb" in fields and "hash_key" in fields["envoy.lb"].fields:
        value = struct_value(fields["envoy.lb"].fields["hash_key"])
        hash_key = value if isinstance(value, str) else ""
    transport = string_pairs(fields[_TRANSPORT_MATCH]) if _TRANSPORT_MATCH in fields else ()
    inner = take.child("metadata")
    found = EndpointMetadata(take_metadata(inner), hash_key, transport)
    if inner is not None and not inner.left:  # what is not read must be reported each time
        context.endpoint_metadata.put(raw, found)
    return found


def string_pairs(struct: Any) -> tuple[tuple[str, str], ...]:
    """A Struct as sorted pairs; what is no string is its JSON."""
    fields = struct.fields
    return tuple([(key, _as_text(struct_value(fields[key]))) for key in sorted(fields)])


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
