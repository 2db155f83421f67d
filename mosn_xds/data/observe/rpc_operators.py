"""Format operators of RPC proxies (those of Envoy's generic_proxy): service, method, properties, the protocol's own status.

`%HOST%` is the service, as in Envoy. Properties are looked up as the configuration spells them, then, of requests, in any
case. All of them mean the like of it for HTTP: authority, method, headers; only `%GENERIC_RESPONSE_CODE%` has no value there.
"""

from collections.abc import Mapping

from mosn_xds.data.match.head import HeadView
from mosn_xds.data.observe.getters import Factory, FormatEnvironment, Getter, Value, plain
from mosn_xds.data.observe.info import StreamInfo


def _first(head: HeadView | None, name: bytes) -> Value:
    values = head.get_all(name) if head is not None else None
    return values[0] if values else None


def _request_property(arg: str | None, environment: FormatEnvironment) -> Getter:
    name = (arg or "").encode()
    return lambda info: _first(info.request_head, name)


def _response_property(arg: str | None, environment: FormatEnvironment) -> Getter:
    name = (arg or "").encode()
    return lambda info: _first(info.response_head, name)


def _method(info: StreamInfo) -> Value:
    return info.request_head.method if info.request_head is not None else None


def _host(info: StreamInfo) -> Value:
    return info.request_head.authority if info.request_head is not None else None


RPC_OPERATORS: Mapping[str, Factory] = {
    "METHOD": plain(_method),
    "HOST": plain(_host),
    "REQUEST_PROPERTY": _request_property,
    "RESPONSE_PROPERTY": _response_property,
    "GENERIC_RESPONSE_CODE": plain(lambda info: info.rpc_code),
}
