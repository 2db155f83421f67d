"""Dubbo 2 (https://cn.dubbo.apache.org/en/overview/reference/protocols/tcp/), with arguments in Hessian 2."""

from mosn_xds.data.codec.rpc.dubbo.messages import DubboRequest, DubboResponse
from mosn_xds.data.codec.rpc.dubbo.options import DubboOptions
from mosn_xds.data.codec.rpc.dubbo.protocol import Dubbo

__all__ = ["Dubbo", "DubboOptions", "DubboRequest", "DubboResponse"]
