"""Answers that cannot leave have their time; what moves has more, and what has left is not looked at."""

from mosn_xds.base.clock import ManualClock
from mosn_xds.data.codec.events import RequestStarted, StreamReset
from mosn_xds.data.codec.http2 import Http2Options
from mosn_xds.data.codec.http2.engines import ngh2_engine
from mosn_xds.data.net.timers import TimerWheel
from mosn_xds.data.proxy.flush_watch import FlushWatch
from tests.support.http2_pair import Pair, answer, get

WINDOW = 1000


class Reader:
    """A client with small windows, asked nothing of but to take what it asked for; the watch allows ten seconds."""

    def __init__(self) -> None:
        self.pair = Pair(ngh2_engine, client=Http2Options(initial_stream_window_bytes=WINDOW))
        self.clock = ManualClock()
        self.wheel = TimerWheel(self.clock)
        self.served: set[int] = set()
        self.gave_up = 0
        self.watch = FlushWatch(self.pair.server, self.served, self.wheel, self.clock, 10.0, self._on_give_up)

    def _on_give_up(self) -> None:
        self.gave_up += 1

    def ask(self, size: int) -> int:
        """A request and its whole answer."""
        stream_id = self.pair.client.send_head(get(), True)
        self.pair.exchange()
        assert [type(event) for event in self.pair.take()[1]] == [RequestStarted]
        self.pair.server.send_head(stream_id, answer(), False)
        self.pair.server.send_data(stream_id, bytes(size), True)
        self.pair.exchange()
        self.watch.look()
        return stream_id

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wheel.advance(self.clock.monotonic())
        self.pair.exchange()

    def resets(self) -> list[int]:
        return [event.stream_id for event in self.pair.take()[0] if isinstance(event, StreamReset)]


def test_what_does_not_move_is_reset_and_what_is_complete_is_not() -> None:
    reader = Reader()
    stuck, complete = reader.ask(WINDOW + 1), reader.ask(WINDOW)
    assert reader.pair.server.unfinished_streams() == {stuck}
    reader.pass_time(9)
    assert reader.resets() == []
    reader.pass_time(2)
    assert reader.resets() == [stuck]
    assert reader.gave_up == 1
    assert reader.pair.server.idle
    assert reader.pair.server_stats.tx_flush_timeout == 1
    assert complete not in reader.resets()
    assert reader.wheel.next_deadline() is None


def test_a_reader_that_is_slow_but_reads_has_its_time_anew() -> None:
    reader = Reader()
    slow = reader.ask(5 * WINDOW)
    for _ in range(4):
        reader.pair.client.consume(slow, WINDOW)
        reader.pair.exchange()
        reader.pass_time(11)
        assert reader.resets() == []
    assert reader.pair.server.idle
    assert reader.gave_up == 0


def test_streams_that_are_served_have_time_limits_of_their_own() -> None:
    reader = Reader()
    reader.served.add(1)
    assert reader.ask(WINDOW + 1) == 1
    reader.pass_time(30)
    assert reader.resets() == []
    reader.served.clear()
    reader.watch.look()
    reader.pass_time(11)
    assert reader.resets() == [1]


def test_a_connection_that_is_over_has_no_timer() -> None:
    reader = Reader()
    reader.ask(WINDOW + 1)
    reader.watch.close()
    assert reader.wheel.next_deadline() is None
