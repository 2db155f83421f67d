"""Thrift messages in frames, in the binary and the compact protocol."""

from mosn_xds.data.codec.rpc.thrift.messages import ThriftResponse
from mosn_xds.data.codec.rpc.thrift.protocol import Thrift

__all__ = ["Thrift", "ThriftResponse"]
