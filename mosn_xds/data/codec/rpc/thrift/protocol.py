"""Thrift in frames, binary and compact, each told by its first byte; without the header transport.

A call's name is its method, or, where several services share a port (TMultiplexedProtocol), ``service:method``; the whole
name is its path. Most servers take the calls of a connection one after another, so upstream connections carry one at a time,
as Envoy's do.

The proxy's own answers are TApplicationExceptions, of the types that Envoy's thrift_proxy uses.
"""

from typing import ClassVar, Final

from mypy_extensions import mypyc_attr

from mosn_xds.data.codec.rpc.messages import BadFrame, Kind, RpcMessage, RpcRequest
from mosn_xds.data.codec.rpc.protocol import MORE, PoolMode, RpcProtocol, Sniff
from mosn_xds.data.codec.rpc.thrift import wire
from mosn_xds.data.codec.rpc.thrift.messages import EXCEPTION, ThriftRequest, ThriftResponse

HEAD_BYTES: Final = 8

# Types of TApplicationException.
UNKNOWN_METHOD: Final = 1
INTERNAL_ERROR: Final = 6
PROTOCOL_ERROR: Final = 7

_EXCEPTION_STATUSES: Final = {
    1: 404,  # UNKNOWN_METHOD
    2: 400,  # INVALID_MESSAGE_TYPE
    3: 400,  # WRONG_METHOD_NAME
    4: 400,  # BAD_SEQUENCE_ID
    7: 400,  # PROTOCOL_ERROR
    8: 400,  # INVALID_TRANSFORM
    9: 400,  # INVALID_PROTOCOL
    10: 400,  # UNSUPPORTED_CLIENT_TYPE
}
"""What an exception is to retries and statistics; any other is 500."""
_EXCEPTION_TYPES: Final = {400: PROTOCOL_ERROR, 404: UNKNOWN_METHOD}


@mypyc_attr(native_class=False)
class Thrift(RpcProtocol):
    """Framed Thrift. The code of a response is its type: 2, a reply, or 3, an exception that its service does not declare."""

    name: ClassVar[str] = "thrift"
    pool: ClassVar[PoolMode] = PoolMode.PING_PONG
    head_bytes: ClassVar[int] = HEAD_BYTES
    has_properties: ClassVar[bool] = False

    def sniff(self, prefix: bytes) -> Sniff:
        if prefix and prefix[0] > self.max_frame_bytes >> 24:
            return Sniff.NO
        if len(prefix) < HEAD_BYTES:
            known = prefix[4:6]
            compact = known[:1] == b"\x82" and (len(known) < 2 or known[1] in _COMPACT_CALLS)
            return Sniff.MORE if compact or known == _BINARY[: len(known)] else Sniff.NO
        if not 0 < int.from_bytes(prefix[:4], "big") <= self.max_frame_bytes:
            return Sniff.NO
        calls = prefix[5] in _COMPACT_CALLS if prefix[4] == wire.COMPACT else prefix[4:HEAD_BYTES] in _BINARY_CALLS
        return Sniff.YES if calls else Sniff.NO

    def frame_bytes(self, data: bytes, at: int) -> int:
        if len(data) - at < wire.LENGTH_BYTES:
            return MORE
        size = int.from_bytes(data[at : at + 4], "big")
        if not 0 < size < 0x80000000:
            raise BadFrame("thrift_bad_length")
        return wire.LENGTH_BYTES + size

    def from_client(self, frame: bytes) -> RpcMessage:
        kind, name, id, _ = wire.read_head(frame)
        if kind not in (wire.CALL, wire.ONEWAY):
            raise BadFrame("thrift_no_call")
        service, colon, method = name.partition(b":")
        if not colon:
            service, method = b"", name
        return ThriftRequest(
            method, b"", service, name, self.version, [], None, True, None,
            frame, id, Kind.REQUEST if kind == wire.CALL else Kind.ONEWAY, None, [], name=name,
        )  # fmt: skip

    def from_server(self, frame: bytes) -> RpcMessage:
        kind, _, id, at = wire.read_head(frame)
        if kind == wire.REPLY:
            status = 200
            field = wire.first_field(frame, at)
            result = b"void" if field is None else EXCEPTION if field else b"value"
        elif kind == wire.EXCEPTION:
            status = _EXCEPTION_STATUSES.get(wire.exception_type(frame, at), 500)
            result = EXCEPTION
        else:
            raise BadFrame("thrift_no_reply")
        return ThriftResponse(status, [], self.version, b"", None, frame, id, Kind.RESPONSE, kind, [], result)

    def with_id(self, frame: bytes, id: int) -> bytes:
        return wire.with_id(frame, id)

    def edit_request(self, request: RpcRequest) -> bytes:
        """Under its path as its name."""
        return wire.with_name(request.frame, request.path)

    def reply(self, request: RpcRequest, status: int, reason: str) -> bytes:
        frame = request.frame
        _, name, id, _ = wire.read_head(frame)
        kind = _EXCEPTION_TYPES.get(status, INTERNAL_ERROR)
        return wire.exception(name, id, kind, reason.encode(), compact=wire.is_compact(frame))


_BINARY: Final = b"\x80\x01\x00"
_BINARY_CALLS: Final = (_BINARY + bytes((wire.CALL,)), _BINARY + bytes((wire.ONEWAY,)))
_COMPACT_CALLS: Final = (wire.CALL << 5 | 1, wire.ONEWAY << 5 | 1)
