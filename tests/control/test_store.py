from mosn_xds.base.clock import ManualClock
from mosn_xds.base.errors import ConfigError
from mosn_xds.control.store import HISTORY_LENGTH, Offer, ResourceKey, ResourceStore, Status

KEY = ResourceKey("ads", "type.googleapis.com/x.Cluster", "c1")


def make() -> tuple[ResourceStore[str], ManualClock]:
    clock = ManualClock()
    return ResourceStore(clock), clock


def record(store: ResourceStore[str]):  # type: ignore[no-untyped-def]
    found = store.get(KEY)
    assert found is not None
    return found


def test_a_requested_resource_waits_and_may_time_out() -> None:
    store, _ = make()
    store.request(KEY)
    assert record(store).status is Status.REQUESTED
    store.time_out(KEY)
    assert record(store).status is Status.TIMED_OUT
    store.accept(KEY, "v1", b"one", "spec")
    store.time_out(KEY)
    assert record(store).status is Status.ACKED


def test_the_same_bytes_are_unchanged_whatever_their_version() -> None:
    store, clock = make()
    assert store.offer(KEY, b"one") is Offer.CHANGED
    store.accept(KEY, "v1", b"one", "spec")
    good = record(store).good
    clock.advance(5)
    assert store.offer(KEY, b"one") is Offer.UNCHANGED
    assert store.offer(KEY, b"two") is Offer.CHANGED
    store.keep(KEY, "v2")
    assert record(store).good is good
    assert (record(store).version, record(store).updated_at) == ("v2", clock.wall())
    assert len(record(store).history) == 1


def test_a_refusal_keeps_the_last_good_and_says_why_where_and_when() -> None:
    store, clock = make()
    store.accept(KEY, "v1", b"one", "spec")
    clock.advance(5)
    refusal = store.refuse(KEY, "v2", b"bad", ConfigError("ring too small", path="lb_config", hint="raise it"))
    assert str(refusal) == "lb_config: ring too small (raise it)"
    found = record(store)
    assert (found.status, found.version, found.refusal) == (Status.NACKED, "v2", refusal)
    assert (refusal.version, refusal.raw, refusal.at) == ("v2", b"bad", clock.wall())
    assert found.good is not None
    assert (found.good.version, found.good.product) == ("v1", "spec")


def test_refused_bytes_that_come_again_are_known() -> None:
    store, clock = make()
    store.accept(KEY, "v1", b"one", "spec")
    store.refuse(KEY, "v2", b"bad", ConfigError("why"))
    assert store.offer(KEY, b"bad") is Offer.REFUSED
    clock.advance(5)
    refusal = store.refuse_again(KEY, "v3")
    assert refusal is not None
    assert (refusal.reason, refusal.version, refusal.at) == ("why", "v3", clock.wall())
    assert [line.version for line in record(store).history] == ["v1", "v2"]


def test_going_back_to_the_good_bytes_clears_the_refusal() -> None:
    store, _ = make()
    store.accept(KEY, "v1", b"one", "spec")
    store.refuse(KEY, "v2", b"bad", ConfigError("why"))
    assert store.offer(KEY, b"one") is Offer.UNCHANGED
    store.keep(KEY, "v3")
    assert (record(store).status, record(store).refusal) == (Status.ACKED, None)


def test_an_absent_resource_keeps_its_last_good() -> None:
    store, _ = make()
    store.accept(KEY, "v1", b"one", "spec")
    store.absent(KEY)
    assert record(store).status is Status.ABSENT
    assert record(store).good is not None


def test_history_is_bounded_and_tells_what_was_refused() -> None:
    store, _ = make()
    for number in range(HISTORY_LENGTH):
        store.accept(KEY, f"v{number}", b"%d" % number, "spec")
    store.refuse(KEY, "bad", b"bad", ConfigError("why", path="name"))
    history = record(store).history
    assert len(history) == HISTORY_LENGTH
    assert (history[0].version, history[0].reason) == ("v1", None)
    assert (history[-1].version, history[-1].reason) == ("bad", "name: why")


def test_the_same_name_from_another_source_is_another_resource() -> None:
    store, _ = make()
    store.accept(KEY, "v1", b"one", "spec")
    other = KEY._replace(source="sds-grpc")
    assert store.offer(other, b"one") is Offer.CHANGED
    assert store.get(other) is None
    assert list(store.records("ads", KEY.type_url)) == ["c1"]


def test_changes_count_what_is_in_use() -> None:
    store, _ = make()
    store.accept(KEY, "v1", b"one", "spec")
    assert store.changes == 1
    store.refuse(KEY, "v2", b"bad", ConfigError("why"))
    store.keep(KEY, "v3")
    assert store.changes == 1
    assert store.drop(KEY) is not None
    assert store.changes == 2
    assert store.drop(KEY) is None
    assert list(store) == []


def test_repr_tells_how_many_of_each() -> None:
    store, _ = make()
    store.accept(KEY, "v1", b"one", "spec")
    store.request(KEY._replace(name="c2"))
    assert repr(store) == "<ResourceStore 1 requested, 1 acked>"
