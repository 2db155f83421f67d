from mosn_xds.control.backoff import BackOff


class Always:
    """Chance that gives the same draw."""

    def __init__(self, draw: float) -> None:
        self.draw = draw

    def random(self) -> float:
        return self.draw

    def getrandbits(self, k: int, /) -> int:
        return 0

    def randrange(self, stop: int, /) -> int:
        return 0


def test_waits_double_from_half_a_second_to_thirty_and_start_over_after_reset() -> None:
    back_off = BackOff(Always(1.0))
    assert [back_off.next_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    back_off.reset()
    assert back_off.next_s() == 0.5


def test_jitter_is_full() -> None:
    assert [BackOff(Always(draw)).next_s() for draw in (0.0, 0.5)] == [0.0, 0.25]
