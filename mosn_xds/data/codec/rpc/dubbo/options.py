"""What Dubbo can be configured with beyond what every protocol can."""

from mosn_xds.data.codec.rpc.options import RpcOptions


class DubboOptions(RpcOptions, frozen=True):
    """`opaque_serializations`: messages in another serialization than Hessian 2 pass, with no service, method or property.

    They close their connection otherwise, as with Envoy: a rule that denies a method would not see it in them.
    (A msgspec.Struct, as all options.)
    """

    opaque_serializations: bool = False
