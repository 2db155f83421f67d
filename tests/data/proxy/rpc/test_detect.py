"""Which protocol is found depends on the bytes and the order of the configuration, on nothing else."""

from collections.abc import Awaitable, Callable
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosn_xds.data.codec.rpc import RpcOptions, RpcProtocol, Sniff
from mosn_xds.data.codec.rpc.bolt.options import BoltOptions
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from mosn_xds.data.codec.rpc.dubbo.options import DubboOptions
from mosn_xds.data.codec.rpc.dubbo.protocol import Dubbo
from mosn_xds.data.proxy.rpc.detect import Detection, detect
from mosn_xds.data.proxy.rpc.manager import RpcManager
from mosn_xds.data.proxy.rpc.tcp_detection import rpc_proxy
from mosn_xds.spec.listener import TcpCluster, TcpProxy
from mosn_xds.spec.rpc import ProtocolUse
from tests.data.proxy.tcp_stage import Stage
from tests.data.upstream.harness import Upstream, World, run, settled
from tests.support import bolt, dubbo_peer

BOLT, DUBBO = Bolt(BoltOptions()), Dubbo(DubboOptions())
CALL = bolt.request([(b"service", b"shop.Cart")], b"content")
ANSWER = bolt.response(content=b"answered")
DUBBO_CALL = dubbo_peer.frame(0xC2, 0, 7, b"\x052.0.2")


class Word(RpcProtocol):
    """A protocol that begins with a word; `head_bytes` may be less than that."""

    def __init__(self, word: bytes, head_bytes: int = 64) -> None:
        super().__init__(RpcOptions())
        self.word = word
        self.head_bytes = head_bytes  # type: ignore[misc]

    def sniff(self, prefix: bytes) -> Sniff:
        if prefix.startswith(self.word):
            return Sniff.YES
        return Sniff.MORE if self.word.startswith(prefix) else Sniff.NO


@pytest.mark.parametrize("protocols", list(permutations((BOLT, DUBBO))))
def test_each_protocol_is_found_wherever_it_stands(protocols: tuple[RpcProtocol, ...]) -> None:
    assert detect(protocols, CALL) is BOLT
    assert detect(protocols, bolt.request(proto=2, ver1=2)) is BOLT
    assert detect(protocols, DUBBO_CALL) is DUBBO


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"SSH-2.0-x\r\n",
        b"\x00" * 30,
        b"\x01\x09",
    ],
)
def test_what_others_speak_is_none_of_them(stream: bytes) -> None:
    assert detect((BOLT, DUBBO), stream) is Sniff.NO


def test_the_first_of_those_that_would_do_is_found() -> None:
    short, long = Word(b"he"), Word(b"hello")
    assert detect((short, long), b"hello") is short
    assert detect((long, short), b"hello") is long


def test_one_that_cannot_tell_yet_is_waited_for_by_those_behind_it() -> None:
    short, long = Word(b"he"), Word(b"hello")
    assert detect((long, short), b"hel") is Sniff.MORE
    assert detect((long, short), b"help") is short


def test_one_that_cannot_tell_from_its_own_bound_of_bytes_is_not_spoken() -> None:
    assert detect((Word(b"hello", head_bytes=3),), b"he") is Sniff.MORE
    assert detect((Word(b"hello", head_bytes=3),), b"hel") is Sniff.NO
    assert detect((Word(b"hello", head_bytes=3), Word(b"hello world")), b"hello world") is not Sniff.NO


@given(st.sampled_from([CALL, DUBBO_CALL, b"hello world", b"\x01\x01\x00\x01x", b"\xda\xbc"]), st.integers(1, 9))
def test_how_the_bytes_are_cut_does_not_matter(stream: bytes, size: int) -> None:
    protocols = (Word(b"hello wo"), BOLT, DUBBO, Word(b"hell"))
    whole = detect(protocols, stream)
    detection = Detection(protocols)
    found: RpcProtocol | Sniff = Sniff.MORE
    for at in range(0, len(stream), size):
        found = detection.receive(stream[at : at + size])
        if found is not Sniff.MORE:
            break
    assert found is whole
    assert stream.startswith(detection.prefix)


# An RPC proxy with several protocols.


def play(story: Callable[[Stage, RpcManager, Upstream], Awaitable[None]], *, timeout_s: float = 15.0) -> None:
    async def main(world: World) -> None:
        upstream = Upstream()
        world.cluster(upstream.port)
        stage = Stage(world)
        uses = (ProtocolUse("dubbo", "dubbo"), ProtocolUse("bolt", "bolt"))
        tcp = TcpProxy("test", (TcpCluster("svc"),), protocols=uses)
        spec = rpc_proxy(tcp)
        fields = {name: getattr(spec, name) for name in spec.__struct_fields__} | {"detection_timeout_s": timeout_s}
        manager = RpcManager(type(spec)(**fields), stage.context)
        await story(stage, manager, upstream)

    run(main)


@pytest.mark.parametrize("cut", [1, 3, len(CALL)])
def test_a_connection_is_served_in_the_protocol_that_it_speaks(cut: int) -> None:
    async def story(stage: Stage, manager: RpcManager, upstream: Upstream) -> None:
        client = stage.client(terminal=manager)
        await client.stream.send_all(CALL[:cut])
        await settled(stage.world)
        if cut < len(CALL):
            await client.stream.send_all(CALL[cut:])
        peer = await upstream.accept()
        assert b"shop.Cart" in await peer.stream.receive_some()
        await peer.stream.send_all(ANSWER)
        assert (await client.read(len(ANSWER))).endswith(b"answered")
        figures = stage.world.figures("rpc.test.")
        assert figures["downstream_cx_detected.bolt"] == figures["downstream_cx_total"] == 1
        assert figures["downstream_cx_rx_bytes_total"] == len(CALL)
        await client.stream.aclose()
        await settled(stage.world)
        assert stage.done == 1
        assert "downstream_cx_active" not in stage.world.figures("rpc.test.")

    play(story)


def test_a_client_that_speaks_none_of_them_is_closed_with_a_reason() -> None:
    async def story(stage: Stage, manager: RpcManager, upstream: Upstream) -> None:
        client = stage.client(terminal=manager)
        await client.stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        assert await client.end() == "fin"
        assert client.session.info.close_reason == "rpc_protocol_unknown"
        await client.stream.aclose()
        await settled(stage.world)
        figures = stage.world.figures("rpc.test.")
        assert figures["downstream_cx_protocol_unknown"] == figures["downstream_cx_protocol_error"] == 1
        assert figures["downstream_cx_total"] == figures["downstream_cx_destroy"] == 1

    play(story)


def test_a_client_that_begins_and_does_not_go_on_is_closed() -> None:
    async def story(stage: Stage, manager: RpcManager, upstream: Upstream) -> None:
        client = stage.client(terminal=manager)
        await client.stream.send_all(CALL[:2])
        assert await client.end() == "fin"
        assert client.session.info.close_reason == "rpc_protocol_detection_timeout"
        assert stage.world.figures("rpc.test.")["downstream_cx_protocol_detection_timeout"] == 1

    play(story, timeout_s=0.02)


def test_a_client_that_says_nothing_yet_is_waited_for() -> None:
    async def story(stage: Stage, manager: RpcManager, upstream: Upstream) -> None:
        client, second = stage.client(terminal=manager), stage.client(terminal=manager)
        await second.stream.send_all(CALL[:2])
        assert await second.end() == "fin"  # of whom time is asked
        await client.stream.send_all(CALL)
        await upstream.accept()
        assert client.session.close_if_idle()

    play(story, timeout_s=0.02)


def test_one_whose_protocol_is_not_known_yet_leaves_without_a_word_when_its_chain_drains() -> None:
    async def story(stage: Stage, manager: RpcManager, upstream: Upstream) -> None:
        client = stage.client(terminal=manager)
        assert client.session.idle
        assert client.session.close_if_idle()
        assert await client.read_all() == b""

    play(story)
