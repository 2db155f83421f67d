"""The two ends of a feed: framing with descriptors, one generation in flight, the newest one next."""

import os
import socket
from collections.abc import Mapping

import msgspec
import trio
from trio.testing import wait_all_tasks_blocked

from mosn_xds.process.feed import WorkerFeed
from mosn_xds.process.sockets import ListenerSockets, SocketKey
from mosn_xds.process.wire import FeedWire
from mosn_xds.spec import feed
from mosn_xds.spec.listener import Listener
from mosn_xds.spec.snapshot import Item, Kind, Snapshot
from tests.process.mesh import cluster, endpoints, listener, snapshot
from tests.support.ports import PortAllocator

PORTS = PortAllocator()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Context:
    """A supervisor's answers."""

    def __init__(self) -> None:
        self.sockets = ListenerSockets(2)
        self.heard: list[feed.FromWorker] = []

    def socket_key(self, item: Item) -> SocketKey | None:
        spec = msgspec.msgpack.decode(item.raw, type=Listener)
        self.sockets.bind(spec)
        return spec.name, spec.socket_uid

    def limit_rows(self, item: Item) -> Mapping[str, int]:
        return {f"row of {item.name}": 7} if item.kind is Kind.CLUSTER else {}

    def on_message(self, slot: int, message: feed.FromWorker) -> None:
        self.heard.append(message)


class FakeWorker:
    """The other end, which says only what a test makes it say."""

    def __init__(self, wire: FeedWire) -> None:
        self.wire = wire
        self.decoder = msgspec.msgpack.Decoder(feed.ToWorker)

    def take_fds(self) -> int:
        """How many came with the frame at hand."""
        fds = self.wire.take_fds()
        for fd in fds:
            os.close(fd)
        return len(fds)

    async def until_publish(self) -> list[feed.ToWorker]:
        """What came up to the next `Publish`, included."""
        seen: list[feed.ToWorker] = []
        while not (seen and isinstance(seen[-1], feed.Publish)):
            bodies = await self.wire.receive()
            assert bodies is not None
            seen += [self.decoder.decode(body) for body in bodies]
        return seen


def run(story) -> None:  # type: ignore[no-untyped-def]
    """Run `story(feed, worker, context)` between the two ends."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        context = Context()
        found = WorkerFeed(0, FeedWire(ours), context)
        worker = FakeWorker(FeedWire(theirs))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.wire.flush)
            nursery.start_soon(found.run)
            await story(found, worker, context)
            nursery.cancel_scope.cancel()
        context.sockets.close()
        worker.wire.close()
        ours.close()

    before = open_descriptors()
    trio.run(main)
    assert open_descriptors() <= before  # what other tests held may be collected meanwhile


def test_frames_and_descriptors_arrive_in_order_and_leave_none_behind() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        sender, receiver = FeedWire(ours), FeedWire(theirs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.flush)
            files = []
            for number in range(50):
                if number % 3 == 0:
                    fd = os.memfd_create("x")
                    files.append(os.fstat(fd).st_ino)
                    sender.send(feed.Sockets(str(number), b"x" * 1000), [fd] * (number % 5 + 1))
                    os.close(fd)
                else:
                    sender.send(feed.Publish(number))
            decoder = msgspec.msgpack.Decoder(feed.ToWorker)
            got = 0
            while got < 50:
                for body in await receiver.receive() or ():
                    message = decoder.decode(body)
                    if got % 3 == 0:
                        fds = receiver.take_fds()
                        assert isinstance(message, feed.Sockets)
                        assert message.listener == str(got)
                        assert len(fds) == got % 5 + 1
                        assert {os.fstat(fd).st_ino for fd in fds} == {files[got // 3]}
                        for fd in fds:
                            assert not os.get_inheritable(fd)
                            os.close(fd)
                    else:
                        assert message == feed.Publish(got)
                    got += 1
            sender.send(feed.Sockets("unread", b""), [0])
            await sender.drained()
            await receiver.receive()
            nursery.cancel_scope.cancel()
        sender.close()
        receiver.close()

    before = open_descriptors()
    trio.run(main)
    assert open_descriptors() <= before  # what other tests held may be collected meanwhile


def test_snapshots_offered_while_one_is_in_flight_coalesce_to_the_newest() -> None:
    async def story(found: WorkerFeed, worker: FakeWorker, context: Context) -> None:
        found.offer(snapshot(cluster("a"), generation=1))
        first = await worker.until_publish()
        assert first[-1] == feed.Publish(1)
        for generation in range(2, 100):
            found.offer(snapshot(cluster(f"c{generation}"), generation=generation))
        await wait_all_tasks_blocked()
        worker.wire.send(feed.Applied(1))
        second = await worker.until_publish()
        assert [type(message) for message in second] == [
            feed.LimitRows,
            feed.Put,
            feed.Drop,
            feed.LimitRows,  # what is not needed any more
            feed.Publish,
        ]
        assert second[-1] == feed.Publish(99)
        worker.wire.send(feed.Applied(99))
        await wait_all_tasks_blocked()
        assert found.held.generation == 99
        assert set(found.held.items) == {(Kind.CLUSTER, "c99")}

    run(story)


def test_rows_and_sockets_come_before_what_needs_them_and_only_once() -> None:
    async def story(found: WorkerFeed, worker: FakeWorker, context: Context) -> None:
        port = PORTS.take()
        found.offer(snapshot(cluster("a"), listener(port), generation=1))
        first = await worker.until_publish()
        assert [type(message) for message in first] == [
            feed.LimitRows, feed.Put, feed.Sockets, feed.Put, feed.Publish,
        ]  # fmt: skip
        assert worker.take_fds() == 1
        worker.wire.send(feed.Applied(1))
        # The same sockets, another listener on them; the same cluster, changed.
        changed = msgspec.structs.replace(listener(port), buffer_limit_bytes=5)
        other = msgspec.structs.replace(cluster("a"), connect_timeout_s=9.0)
        found.offer(snapshot(other, changed, generation=2))
        second = await worker.until_publish()
        assert [type(message) for message in second] == [feed.Put, feed.Put, feed.Publish]

    run(story)


def test_changed_sockets_are_sent_again_and_so_are_those_of_a_missing_sibling() -> None:
    async def story(found: WorkerFeed, worker: FakeWorker, context: Context) -> None:
        port = PORTS.take()
        found.offer(snapshot(listener(port), generation=1))
        await worker.until_publish()
        assert worker.take_fds() == 1
        worker.wire.send(feed.Applied(1))
        await wait_all_tasks_blocked()
        found.serve_for([0, 1])
        found.offer(snapshot(listener(port, uid=b"s2"), generation=2))
        second = await worker.until_publish()
        assert second[0] == feed.Sockets("echo", b"s1")
        assert worker.take_fds() == 2
        assert second[1] == feed.Sockets("echo", b"s2")
        assert worker.take_fds() == 2

    run(story)


def test_what_was_refused_is_not_held() -> None:
    async def story(found: WorkerFeed, worker: FakeWorker, context: Context) -> None:
        old = snapshot(cluster("a"), generation=1)
        found.offer(old)
        await worker.until_publish()
        worker.wire.send(feed.Applied(1))
        changed = msgspec.structs.replace(cluster("a"), connect_timeout_s=9.0)
        new = snapshot(changed, endpoints("e"), generation=2)
        found.offer(new)
        await worker.until_publish()
        for key in new.items:
            worker.wire.send(feed.Refused(key[0], key[1], new.items[key].uid, "no"))
        worker.wire.send(feed.Applied(2))
        await wait_all_tasks_blocked()
        assert found.held.items == old.items
        # It is not said again by itself: the supervisor decides what comes next.
        with trio.move_on_after(0.05) as waiting:
            await worker.wire.receive()
        assert waiting.cancelled_caught

    run(story)


def test_big_generation_waits_for_a_slow_reader() -> None:
    async def story(found: WorkerFeed, worker: FakeWorker, context: Context) -> None:
        big = [msgspec.structs.replace(cluster(f"c{n}"), metadata=b"x" * 10_000) for n in range(500)]
        found.offer(snapshot(*big, generation=1))
        await wait_all_tasks_blocked()
        assert found._wire.queued_bytes < 2_000_000
        messages = await worker.until_publish()
        assert sum(isinstance(message, feed.Put) for message in messages) == 500

    run(story)


def test_empty_snapshot_is_a_generation_too() -> None:
    async def story(found: WorkerFeed, worker: FakeWorker, context: Context) -> None:
        found.offer(Snapshot(1, {}))
        assert await worker.until_publish() == [feed.Publish(1)]

    run(story)
