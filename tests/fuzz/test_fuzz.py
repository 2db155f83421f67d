"""A little of `make fuzz` for each codec; and what it is to find, it finds."""

import pytest
from hypothesis import given, settings

from mosn_xds.data.codec.rpc import RpcMessage
from mosn_xds.data.codec.rpc.bolt.options import BoltOptions
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from mosn_xds.data.codec.rpc.harness import check_bytes
from tests.fuzz.material import NAMES, damaged, protocol, seeds
from tests.fuzz.run import by_hypothesis


@pytest.mark.parametrize("name", NAMES)
def test_damaged_frames_of_real_peers_are_messages_or_bad(name: str) -> None:
    fuzzed, frames = protocol(name), seeds(name)
    assert len(frames) > 10

    @settings(max_examples=150, deadline=None)
    @given(damaged(frames))
    def attempt(data: bytes) -> None:
        check_bytes(fuzzed, data)

    attempt()


class Fragile(Bolt):
    """Trips over a byte that peers seldom send."""

    def from_client(self, frame: bytes) -> RpcMessage:
        if b"\x80" in frame[:60]:
            raise IndexError("somewhere")
        return super().from_client(frame)


def test_a_fault_is_found_and_its_input_shown() -> None:
    tried, trouble = by_hypothesis(Fragile(BoltOptions()), seeds("bolt"), 60)
    assert tried > 0
    assert "IndexError: somewhere" in trouble
    data = bytes.fromhex(trouble.split("input: ")[1])
    with pytest.raises(AssertionError):
        check_bytes(Fragile(BoltOptions()), data)
    check_bytes(Bolt(BoltOptions()), data)
