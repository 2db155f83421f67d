"""Bolt and Dubbo as the demo's clients and services speak them: calls without arguments, and answers of one string.

What is read is read by the codecs themselves; what is written is too simple to be worth one.
"""

from collections.abc import Mapping
from typing import Protocol

from mosn_xds.data.codec.rpc import RpcProtocol, RpcRequest, RpcResponse
from mosn_xds.data.codec.rpc.bolt import wire as bolt
from mosn_xds.data.codec.rpc.bolt.protocol import Bolt
from mosn_xds.data.codec.rpc.dubbo.hessian2 import read_string, write_string
from mosn_xds.data.codec.rpc.dubbo.protocol import Dubbo


class Speech(Protocol):
    """How one protocol is spoken."""

    @property
    def protocol(self) -> RpcProtocol: ...

    def call(self, id: int, service: str, method: str, properties: Mapping[str, str]) -> bytes:
        """A request's frame."""
        ...

    def answer(self, request: RpcRequest, text: str) -> bytes:
        """The frame of an answer that is this text."""
        ...

    def text(self, response: RpcResponse) -> str:
        """What a good answer says."""
        ...


class BoltSpeech:
    """Bolt, version 1."""

    def __init__(self) -> None:
        self.protocol = Bolt(Bolt.Options())

    def call(self, id: int, service: str, method: str, properties: Mapping[str, str]) -> bytes:
        frame = bolt.REQUEST_1.pack(bolt.V1, bolt.REQUEST, bolt.RPC_REQUEST, 1, id, 1, 3000, 0, 0, 0)
        headers = {"service": service, "sofa_head_method_name": method, **properties}
        return bolt.with_fields(frame, [(name.encode(), value.encode()) for name, value in headers.items()])

    def answer(self, request: RpcRequest, text: str) -> bytes:
        content = write_string(text.encode())
        head = bolt.RESPONSE_1.pack(
            bolt.V1, bolt.RESPONSE, bolt.RPC_RESPONSE, 1, request.id, 1, 0, 0, 0, len(content)
        )  # fmt: skip
        return head + content

    def text(self, response: RpcResponse) -> str:
        return read_string(response.frame, bolt.RESPONSE_1.size)[0].decode()


class DubboSpeech:
    """Dubbo 2 with Hessian 2."""

    def __init__(self) -> None:
        self.protocol = Dubbo(Dubbo.Options())

    def call(self, id: int, service: str, method: str, properties: Mapping[str, str]) -> bytes:
        attachments = {"path": service, "interface": service, **properties}
        pairs = [item for pair in attachments.items() for item in pair]
        strings = [write_string(text.encode()) for text in ("2.0.2", service, "0.0.0", method, "", *pairs)]
        return _dubbo(0xC2, 0, id, b"".join((*strings[:5], b"H", *strings[5:], b"Z")))

    def answer(self, request: RpcRequest, text: str) -> bytes:
        return _dubbo(0x02, 20, request.id, b"\x91" + write_string(text.encode()))

    def text(self, response: RpcResponse) -> str:
        return read_string(response.frame, 17)[0].decode()


def _dubbo(flag: int, status: int, id: int, body: bytes) -> bytes:
    return b"\xda\xbb" + bytes((flag, status)) + id.to_bytes(8, "big") + len(body).to_bytes(4, "big") + body
