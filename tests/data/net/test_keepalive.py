"""Pings by the clock."""

import random

import pytest

from mosn_xds.base.clock import ManualClock
from mosn_xds.data.net.keepalive import Keepalive
from mosn_xds.data.net.timers import TimerWheel


class Pinged:
    """A peer that answers only when told to."""

    def __init__(self, *, interval_s: float | None = 1.0, timeout_s: float = 0.5, jitter: float = 0.0) -> None:
        self.clock = ManualClock()
        self.wheel = TimerWheel(self.clock)
        self.pings: list[float] = []
        self.lost: list[float] = []
        self.keepalive = Keepalive(
            self.wheel,
            random.Random(7),
            interval_s=interval_s,
            timeout_s=timeout_s,
            jitter=jitter,
            send=lambda: self.pings.append(self.clock.monotonic()),
            lost=lambda: self.lost.append(self.clock.monotonic()),
        )

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.clock.advance(0.01)
            self.wheel.advance(self.clock.monotonic())


def test_each_answer_starts_the_interval_again() -> None:
    peer = Pinged()
    for _ in range(3):
        before = len(peer.pings)
        peer.pass_time(1.1)
        assert len(peer.pings) == before + 1
        peer.keepalive.answered()
    assert not peer.lost


def test_a_peer_that_does_not_answer_is_lost_once() -> None:
    peer = Pinged()
    peer.pass_time(5)
    assert len(peer.pings) == 1
    assert peer.lost == [pytest.approx(peer.pings[0] + 0.5, abs=0.02)]


def test_jitter_makes_the_interval_longer_by_its_share_at_most() -> None:
    gaps = []
    peer = Pinged(jitter=0.5)
    for _ in range(20):
        began = peer.clock.monotonic()
        wanted = len(peer.pings) + 1
        while len(peer.pings) < wanted:
            peer.pass_time(0.01)
        gaps.append(peer.pings[-1] - began)
        peer.keepalive.answered()
    assert 1.0 <= min(gaps) < 1.15
    assert 1.35 < max(gaps) <= 1.54


def test_without_an_interval_only_a_probe_asks() -> None:
    peer = Pinged(interval_s=None)
    peer.pass_time(3)
    assert not peer.pings
    peer.keepalive.probe()
    peer.keepalive.probe()
    assert len(peer.pings) == 1
    peer.keepalive.answered()
    peer.keepalive.probe()
    assert len(peer.pings) == 2


def test_nothing_is_asked_behind_the_end() -> None:
    peer = Pinged()
    peer.keepalive.probe()
    peer.keepalive.close()
    peer.pass_time(5)
    assert (len(peer.pings), peer.lost, len(peer.wheel)) == (1, [], 0)
