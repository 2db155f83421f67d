import pytest

from mosn_xds.base.clock import ManualClock
from mosn_xds.base.errors import ConfigError
from mosn_xds.control.addresses import AddressBook
from mosn_xds.control.ads.resource_types import LDS
from mosn_xds.control.store import ResourceKey, ResourceStore
from mosn_xds.control.translate.model import Translated
from mosn_xds.spec.common import Address
from mosn_xds.spec.listener import Listener


class Book:
    """An address book whose admitted listeners are in the store."""

    def __init__(self, *static: Listener) -> None:
        self.store: ResourceStore[Translated] = ResourceStore(ManualClock())
        self.book = AddressBook(self.store, [Translated(spec.name, spec) for spec in static])

    def put(self, spec: Listener) -> None:
        key = ResourceKey("ads", LDS.url, spec.name)
        self.book.admit(key, spec)
        self.store.accept(key, "v", repr(spec).encode(), Translated(spec.name, spec))

    def drop(self, name: str) -> None:
        self.store.drop(ResourceKey("ads", LDS.url, name))


def listener(name: str, *ports: int, bind: bool = True) -> Listener:
    return Listener(name, tuple(Address("127.0.0.1", port) for port in ports), bind_to_port=bind)


def test_the_second_listener_of_an_address_is_refused_in_envoys_words() -> None:
    book = Book()
    book.put(listener("l1", 80))
    with pytest.raises(ConfigError) as caught:
        book.put(listener("l1b", 81, 80))
    assert str(caught.value) == (
        "error adding listener: 'l1b' has duplicate address '127.0.0.1:80' as existing listener, to check if the "
        "listener has duplicated addresses with other listeners or 'enable_reuse_port' is set to 'false' for the listener"
    )
    book.put(listener("other", 81))  # what was refused owns nothing


def test_a_listener_may_keep_move_and_leave_its_address() -> None:
    book = Book()
    book.put(listener("l1", 80))
    book.put(listener("l1", 80, 82))
    book.put(listener("l1", 81))
    book.put(listener("l2", 80))
    book.drop("l2")
    book.put(listener("l3", 80))


def test_static_listeners_own_theirs() -> None:
    book = Book(listener("static", 15090))
    with pytest.raises(ConfigError):
        book.put(listener("l", 15090))


def test_any_free_port_is_shared_by_who_binds_it() -> None:
    book = Book()
    book.put(listener("a", 0))
    book.put(listener("b", 0))
    book.put(listener("c", 0, bind=False))
    with pytest.raises(ConfigError):
        book.put(listener("d", 0, bind=False))
