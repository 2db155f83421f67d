"""RPC protocols: what is common to them (messages, framing, the descriptor `RpcProtocol`), and the built-in ones."""

from mosn_xds.data.codec.rpc.framer import Framer
from mosn_xds.data.codec.rpc.messages import BadFrame, Kind, RpcMessage, RpcRequest, RpcResponse
from mosn_xds.data.codec.rpc.options import RpcOptions
from mosn_xds.data.codec.rpc.protocol import MORE, PoolMode, RpcProtocol, Sniff
from mosn_xds.data.codec.rpc.reader import FrameReader

__all__ = [
    "MORE",
    "BadFrame",
    "FrameReader",
    "Framer",
    "Kind",
    "PoolMode",
    "RpcMessage",
    "RpcOptions",
    "RpcProtocol",
    "RpcRequest",
    "RpcResponse",
    "Sniff",
]
