"""What is fuzzed, and what with: every RPC protocol that is installed, and frames of real peers, damaged."""

import json
from pathlib import Path

from hypothesis import strategies as st

from mosn_xds.data.codec.rpc import RpcProtocol
from mosn_xds.data.codec.rpc.protocol import PROTOCOLS
from mosn_xds.spec.extensions import Extensions

GOLDEN = Path(__file__).parent.parent / "data" / "codec" / "rpc" / "golden"
NAMES = ("bolt", "dubbo", "thrift")
EDGES = (
    b"\0",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\0\0",
    b"\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xff\xff\xff",
)


def protocol(name: str) -> RpcProtocol:
    """The protocol behind an entry point, with its default options."""
    kind = Extensions(PROTOCOLS).load(name)
    if not issubclass(kind, RpcProtocol):
        raise TypeError(f"{name} is no RPC protocol")
    return kind(kind.decode_options(b""))


def seeds(name: str) -> list[bytes]:
    """Frames of real peers, not the largest."""
    path = GOLDEN / f"{name}.json"
    entries = json.loads(path.read_text()) if path.exists() else []
    frames = {bytes.fromhex(entry["hex"]) for entry in entries}
    return sorted((frame for frame in frames if len(frame) < 2000), key=len) or [b""]


def damaged(frames: list[bytes]) -> st.SearchStrategy[bytes]:
    """One or two of these frames, here and there with something else inside; or any bytes at all."""
    part = st.one_of(
        st.sampled_from(EDGES), st.binary(max_size=6), st.integers(0, 70_000).map(lambda n: n.to_bytes(4, "big"))
    )
    patch = st.tuples(st.integers(0, 2000), st.sampled_from((0, 0, 1, 2, 4, 30)), part)

    def apply(whole: bytes, patches: list[tuple[int, int, bytes]]) -> bytes:
        for at, gone, there in patches:
            at %= len(whole) + 1
            # As much goes as comes, if nothing else is said: so lengths stay right.
            whole = whole[:at] + there + whole[at + (gone or len(there)) :]
        return whole

    whole = st.lists(st.sampled_from(frames), min_size=1, max_size=2).map(b"".join)
    return st.one_of(st.builds(apply, whole, st.lists(patch, max_size=4)), st.binary(max_size=200))
