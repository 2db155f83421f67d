"""Endpoint updates: hosts keep their identity by address, unchanged localities are not even decoded."""

import msgspec
import pytest

from mosn_xds.data.upstream.membership import Membership
from mosn_xds.spec.cluster import Endpoint, Endpoints, Health, Locality
from mosn_xds.spec.common import Address


def endpoint(last: int, **fields: object) -> Endpoint:
    return Endpoint(Address(f"10.0.0.{last}", 80), **fields)  # type: ignore[arg-type]


def locality(*members: Endpoint, **fields: object) -> Locality:
    raw = msgspec.msgpack.encode(members)
    return Locality(uid=raw, endpoints=msgspec.Raw(raw), **fields)  # type: ignore[arg-type]


def test_a_host_stays_the_same_object_while_its_address_is_named() -> None:
    membership = Membership()
    first = membership.update(Endpoints("a", (locality(endpoint(1), endpoint(2)),)), 1.0)
    assert [host.text for host in first.added] == ["10.0.0.1:80", "10.0.0.2:80"]
    one, two = first.added
    one.rq_total = 7
    second = membership.update(
        Endpoints("a", (locality(endpoint(3), endpoint(1, weight=5, health=Health.UNHEALTHY)),)), 2.0
    )
    assert second.changed
    assert second.removed == [two]
    assert [host.text for host in second.added] == ["10.0.0.3:80"]
    assert membership.hosts == [second.added[0], one]
    assert (one.weight, one.health, one.rq_total, one.healthy_since_s) == (5, Health.UNHEALTHY, 7, 1.0)
    assert second.added[0].healthy_since_s == 2.0


class DrainedPool:
    """Remembers that it was drained."""

    is_empty = True
    drained = False

    def open_stream(self, handler: object) -> None: ...

    def drain(self) -> None:
        self.drained = True

    def close(self) -> None: ...


def test_pools_drain_when_an_endpoint_asks_for_another_transport() -> None:
    membership = Membership()
    (host,) = membership.update(Endpoints("a", (locality(endpoint(1)),)), 1.0).added
    pool, other = DrainedPool(), DrainedPool()
    host.set_pool(0, pool)
    host.add_other_pool("key", other)
    membership.update(Endpoints("a", (locality(endpoint(1, weight=2)),)), 1.0)
    assert not pool.drained
    membership.update(Endpoints("a", (locality(endpoint(1, transport_metadata=(("tlsMode", "istio"),))),)), 1.0)
    assert pool.drained
    assert other.drained
    assert host.pools[0] is None


def test_a_locality_that_did_not_change_is_not_decoded_again() -> None:
    membership = Membership()
    kept = locality(endpoint(1))
    membership.update(Endpoints("a", (kept, locality(endpoint(2), priority=1))), 0.0)
    host = membership.hosts[0]
    unreadable = Locality(uid=kept.uid, endpoints=msgspec.Raw(b"\xff"))
    change = membership.update(Endpoints("a", (unreadable, locality(endpoint(3)))), 0.0)
    assert [host.text for host in change.added] == ["10.0.0.3:80"]
    assert membership.hosts[0] is host


def test_the_same_endpoints_again_change_nothing() -> None:
    membership = Membership()
    endpoints = Endpoints("a", (locality(endpoint(1), priority=2, weight=3),))
    assert membership.update(endpoints, 0.0).changed
    assert not membership.update(endpoints, 0.0).changed
    moved = Endpoints("a", (locality(endpoint(1), priority=1, weight=3),))
    assert membership.update(moved, 0.0) == (True, [], [])
    assert membership.localities[0].priority == 1


def test_a_host_may_move_to_another_locality() -> None:
    membership = Membership()
    membership.update(Endpoints("a", (locality(endpoint(1)), locality(endpoint(2), priority=1))), 0.0)
    hosts = membership.hosts
    change = membership.update(Endpoints("a", (locality(), locality(endpoint(1), endpoint(2), priority=1))), 0.0)
    assert change == (True, [], [])
    assert list(membership.localities[1].hosts) == hosts


def test_an_address_named_twice_is_one_host_where_it_was_named_first() -> None:
    membership = Membership()
    twice = Endpoints("a", (locality(endpoint(1), endpoint(1)), locality(endpoint(1), endpoint(2), priority=1)))
    membership.update(twice, 0.0)
    assert [len(found.hosts) for found in membership.localities] == [1, 1]
    assert len(membership) == 2


def test_no_endpoints_means_no_hosts() -> None:
    membership = Membership()
    membership.update(Endpoints("a", (locality(endpoint(1)),)), 0.0)
    assert len(membership.update(None, 0.0).removed) == 1
    assert membership.hosts == []


def test_what_cannot_be_decoded_changes_nothing() -> None:
    membership = Membership()
    membership.update(Endpoints("a", (locality(endpoint(1)),)), 0.0)
    with pytest.raises(msgspec.MsgspecError):
        membership.update(Endpoints("a", (Locality(uid=b"x", endpoints=msgspec.Raw(b"\xc1")),)), 0.0)
    assert [host.text for host in membership.hosts] == ["10.0.0.1:80"]
