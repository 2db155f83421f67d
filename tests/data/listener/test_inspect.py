"""Listener filters over real connections: what they find, how long they wait, and that they take nothing."""

import socket
from typing import Any

import pytest
import trio
import trio.testing

from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.listener.inspect import Inspected, Inspection
from mosn_xds.data.listener.stats import InspectorStats
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.data.proxy.rpc.protocols import Protocols
from mosn_xds.spec.common import Address
from mosn_xds.spec.listener import Listener, ListenerFilter, ListenerFilterKind, PortPredicate
from mosn_xds.spec.rpc import ProtocolUse
from tests.data.listener.hellos import client_hello
from tests.support import bolt, dubbo_peer
from tests.support.wires import run_reactor, tcp_pair

TLS = ListenerFilter(ListenerFilterKind.TLS_INSPECTOR, "tls")
HTTP = ListenerFilter(ListenerFilterKind.HTTP_INSPECTOR, "http")
PROXY = ListenerFilter(ListenerFilterKind.PROXY_PROTOCOL, "proxy")
RPC = ListenerFilter(
    ListenerFilterKind.PROTOCOL_INSPECTOR, "rpc", protocols=(ProtocolUse("dubbo", "dubbo"), ProtocolUse("bolt", "bolt"))
)
ORIGINAL_DST = ListenerFilter(ListenerFilterKind.ORIGINAL_DST, "original_dst")

HELLO = client_hello("reviews.example.com", ("h2",))


class Guest:
    """One connection under inspection."""

    def __init__(self, reactor: Reactor, *filters: ListenerFilter, **listener: Any) -> None:
        self.near, self.far = tcp_pair()
        self.info = ConnectionInfo(
            id=1, remote=Address("192.0.2.1", 5000), local=Address("10.0.0.1", 80), start_s=0.0, start_wall_s=0.0
        )
        spec = Listener("test", (), listener_filters=filters, **listener)
        self.results: list[Inspected | None] = []
        self._over = trio.Event()
        self.stats = InspectorStats(StatRegistry())
        protocols = [Protocols().build(one.protocols) for one in filters]
        self.inspection = Inspection(reactor, self.near, self.info, spec, self.stats, self._done, protocols)

    def _done(self, inspection: Inspection, result: Inspected | None) -> None:
        assert inspection is self.inspection
        self.results.append(result)
        self._over.set()

    def start(self) -> "Guest":
        self.inspection.start()
        return self

    async def result(self) -> Inspected | None:
        await self._over.wait()
        (result,) = self.results
        return result

    def unread(self) -> bytes:
        try:
            return self.near.recv(100_000)
        except BlockingIOError:
            return b""


def test_without_filters_the_result_is_there_at_once() -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor).start()
        (result,) = guest.results
        assert (result.transport, result.sni, result.alpns, result.restored) == ("raw_buffer", "", (), False)

    run_reactor(story)


@pytest.mark.parametrize("arrives_early", [False, True])
def test_a_client_hello_is_read_and_left_where_it_is(arrives_early: bool) -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, TLS, HTTP)
        if arrives_early:
            await guest.far.send_all(HELLO)
            guest.start()
            assert guest.results
        else:
            guest.start()
            await guest.far.send_all(HELLO)
        result = await guest.result()
        assert (result.transport, result.sni, result.alpns) == ("tls", "reviews.example.com", ("h2",))
        assert guest.unread() == HELLO
        assert len(reactor.timers) == 0

    run_reactor(story)


def test_a_hello_may_come_in_pieces() -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, TLS).start()
        for at in range(0, len(HELLO), 50):
            assert not guest.results
            await guest.far.send_all(HELLO[at : at + 50])
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert (await guest.result()).sni == "reviews.example.com"

    run_reactor(story)


@pytest.mark.parametrize(
    ("sent", "alpns"),
    [
        (b"GET / HTTP/1.1\r\n", ("http/1.1",)),
        (b"GET / HTTP/1.0\r\n", ("http/1.0",)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ("h2c",)),
        (b"*1\r\n$4\r\nPING\r\n", ()),
    ],
)
def test_plaintext_is_told_by_its_first_line(sent: bytes, alpns: tuple[str, ...]) -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, TLS, HTTP).start()
        await guest.far.send_all(sent)
        result = await guest.result()
        assert (result.transport, result.sni, result.alpns) == ("raw_buffer", "", alpns)
        assert guest.unread() == sent

    run_reactor(story)


@pytest.mark.parametrize(
    ("sent", "alpns", "counted"),
    [
        (bolt.request(), ("bolt",), {"bolt_found": 1}),
        (dubbo_peer.request(1), ("dubbo",), {"dubbo_found": 1}),
        (b"GET / HTTP/1.1\r\n\r\n", ("http/1.1",), {}),
        (HELLO, ("h2",), {}),
        (b"\x01\x09and so on", (), {}),
    ],
)
@pytest.mark.parametrize("cut", [1, 3, 5000])
def test_rpc_protocols_are_told_by_their_first_bytes(
    sent: bytes, alpns: tuple[str, ...], counted: dict[str, int], cut: int
) -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, TLS, HTTP, RPC).start()
        for at in range(0, min(len(sent), 30 * cut), cut):
            await guest.far.send_all(sent[at : at + cut])
            await trio.testing.wait_all_tasks_blocked()
        await guest.far.send_all(sent[30 * cut :])
        result = await guest.result()
        assert result is not None and result.alpns == alpns
        assert guest.unread() == sent
        if counted:
            assert guest.stats.for_rpc().extra == counted
        else:
            assert guest.stats.for_rpc().protocol_not_found == (not alpns)

    run_reactor(story)


def test_a_silent_client_is_refused_in_time() -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, TLS, listener_filters_timeout_s=0.02).start()
        assert await guest.result() is None
        assert guest.inspection.timed_out
        assert not guest.inspection.peer_closed

    run_reactor(story)


def test_a_server_that_speaks_first_can_be_served_after_the_time_out() -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(
            reactor, TLS, HTTP, listener_filters_timeout_s=0.02, continue_on_listener_filters_timeout=True
        ).start()
        result = await guest.result()
        assert result is not None
        assert result.transport == "raw_buffer"
        assert guest.inspection.timed_out

    run_reactor(story)


def test_without_a_time_out_it_waits() -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, TLS, listener_filters_timeout_s=None).start()
        assert len(reactor.timers) == 0
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not guest.results
        guest.inspection.cancel()
        assert guest.results == [None]
        assert not guest.inspection.timed_out

    run_reactor(story)


@pytest.mark.parametrize("before", [b"", b"\x16\x03\x01", b"GET /"])
def test_a_client_that_leaves_is_noticed(before: bytes) -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, TLS, HTTP).start()
        if before:
            await guest.far.send_all(before)
            await trio.testing.wait_all_tasks_blocked(0.001)
        await guest.far.aclose()
        assert await guest.result() is None
        assert guest.inspection.peer_closed
        assert not guest.inspection.timed_out

    run_reactor(story)


def test_a_request_and_fin_at_once_is_a_request() -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, TLS, HTTP)
        await guest.far.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await guest.far.aclose()
        guest.start()
        assert (await guest.result()).alpns == ("http/1.1",)

    run_reactor(story)


def test_a_hello_that_never_ends_is_refused_and_an_endless_request_line_goes_on() -> None:
    async def story(reactor: Reactor) -> None:
        endless = b"\x16\x03\x01\x40\x00" + b"\1\0\x3f\xff" + b"\0" * 16380
        guest = Guest(reactor, TLS).start()
        await guest.far.send_all(endless[:16390])
        assert await guest.result() is None
        assert not guest.inspection.peer_closed
        guest = Guest(reactor, HTTP).start()
        await guest.far.send_all(b"GET /" + b"x" * 70_000)
        assert (await guest.result()).alpns == ()

    run_reactor(story)


def test_a_proxy_header_is_taken_and_changes_both_addresses() -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, PROXY, TLS, HTTP).start()
        await guest.far.send_all(b"PROXY TCP4 198.51.100.1 10.9.9.9 4000 8443\r\nGET / HTTP/1.1\r\n\r\n")
        result = await guest.result()
        assert result.restored
        assert result.alpns == ("http/1.1",)
        info = guest.info
        assert (info.remote, info.local) == (Address("198.51.100.1", 4000), Address("10.9.9.9", 8443))
        assert info.restored_local == info.local
        assert (info.direct_remote, info.direct_local) == (Address("192.0.2.1", 5000), Address("10.0.0.1", 80))
        assert guest.unread() == b"GET / HTTP/1.1\r\n\r\n"

    run_reactor(story)


def test_bytes_behind_a_proxy_header_may_come_later() -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, PROXY, TLS).start()
        await guest.far.send_all(b"PROXY UNKNOWN\r\n")
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert not guest.results
        await guest.far.send_all(HELLO)
        result = await guest.result()
        assert result.sni == "reviews.example.com"
        assert not result.restored
        assert guest.info.remote == Address("192.0.2.1", 5000)

    run_reactor(story)


def test_a_missing_proxy_header_is_refused() -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, PROXY).start()
        await guest.far.send_all(b"GET / HTTP/1.1\r\n")
        assert await guest.result() is None
        assert not guest.inspection.peer_closed

    run_reactor(story)


def port(start: int, end: int) -> PortPredicate:
    return PortPredicate("port", (), start, end)


@pytest.mark.parametrize(
    ("predicate", "disabled"),
    [
        (PortPredicate("any"), True),
        (port(80, 81), True),
        (port(81, 90), False),
        (port(0, 80), False),
        (PortPredicate("not", (port(80, 81),)), False),
        (PortPredicate("or", (port(1, 2), port(80, 81))), True),
        (PortPredicate("and", (port(1, 100), PortPredicate("not", (port(90, 95),)))), True),
        (PortPredicate("and", (port(1, 100), port(90, 95))), False),
    ],
)
def test_a_filter_may_be_disabled_by_destination_port(predicate: PortPredicate, disabled: bool) -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, ListenerFilter(ListenerFilterKind.TLS_INSPECTOR, "tls", predicate))
        await guest.far.send_all(HELLO)
        result = await guest.start().result()
        assert result.transport == ("raw_buffer" if disabled else "tls")

    run_reactor(story)


def test_a_connection_that_was_not_redirected_keeps_its_destination() -> None:
    async def story(reactor: Reactor) -> None:
        guest = Guest(reactor, ORIGINAL_DST, use_original_dst=True).start()
        result = await guest.result()
        if result.restored:  # where conntrack watches loopback it knows the connection, and that nobody redirected it
            assert guest.info.local == Address(*guest.near.getsockname())
        else:
            assert guest.info.restored_local is None

    run_reactor(story)


def test_a_finished_inspection_leaves_the_reactor() -> None:
    """The socket may be served, or closed and its number used again."""

    async def story(reactor: Reactor) -> None:
        before = repr(reactor).split(",")[0]
        guest = Guest(reactor, TLS).start()
        await guest.far.send_all(b"x")
        await guest.result()
        assert repr(reactor).split(",")[0] == before
        await guest.far.send_all(b"y")
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert len(guest.results) == 1
        assert guest.near.fileno() >= 0
        assert isinstance(guest.near, socket.socket)

    assert run_reactor(story).failures == 0
