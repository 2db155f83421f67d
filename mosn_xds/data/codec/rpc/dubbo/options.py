"""What Dubbo can be configured with beyond what every protocol can. (As a msgspec.Struct, as all options.)"""

from mosn_xds.data.codec.rpc.options import RpcOptions


class DubboOptions(RpcOptions, frozen=True):
    """`opaque_serializations`: messages in another serialization than Hessian 2 pass, with no service, method or property.

    They close their connection otherwise, as with Envoy: a rule that denies a method would not see it in them.
    `no_route_status` answers requests that no route takes: 80 (SERVER_ERROR), as Envoy's generic_proxy does, or, as its
    dubbo_proxy, 60 (SERVICE_NOT_FOUND). `timeout_status` answers those that the proxy gives up: 31 (SERVER_TIMEOUT), of which
    Java's client makes a TimeoutException, or 80, as Envoy's codec does.
    """

    opaque_serializations: bool = False
    no_route_status: int = 80
    timeout_status: int = 31

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 20 < self.no_route_status < 256:
            raise ValueError("no_route_status must be the status of an error")
        if not 20 < self.timeout_status < 256:
            raise ValueError("timeout_status must be the status of an error")
