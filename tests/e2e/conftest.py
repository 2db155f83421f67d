"""What the end-to-end tests stand on: a network where the recorded ports are free."""

import functools
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.namespace import Network, is_possible

namespaces_possible = functools.cache(is_possible)


def enter_network(stack: ExitStack) -> bool:
    """Enter a network of the test's own until the stack is closed. False where that is not possible: whoever goes on in
    the machine's network says by `skip_unless_free` what must be free in it."""
    if not namespaces_possible():
        return False
    network = Network()
    stack.callback(network.close)
    stack.enter_context(network.entered())
    return True


def skip_unless_free(addresses: Iterable[tuple[str, int]]) -> None:
    """Skip the test if somebody has one of the addresses, or we may not."""
    for host, port in addresses:
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        except OSError as error:
            pytest.skip(f"the recording binds {host}:{port}: {error.strerror}")


@pytest.fixture
def network() -> Iterator[bool]:
    """Whether the test is in a network of its own; see `enter_network`."""
    with ExitStack() as stack:
        yield enter_network(stack)
