"""Bolt, the protocol of SOFARPC, versions 1 and 2 mixed as peers like (SOFABolt's RpcProtocol and RpcProtocolV2).

A request's `service` is its header ``service``, else ``sofa_head_target_service``; its `method` is the header
``sofa_head_method_name``. All headers are properties, and ``:class`` answers like one (`BoltRequest`). Neither the content nor
what the class says about it is ever looked at.

Answers of the proxy are in the version and the codec of the request, with a CRC if the request had one, and without content:
for some statuses Java's client would read an exception from it.
"""

from struct import Struct, error
from typing import ClassVar, Final

from mypy_extensions import mypyc_attr

from mosn_xds.data.codec.rpc.bolt import wire
from mosn_xds.data.codec.rpc.bolt.messages import BoltRequest, BoltResponse
from mosn_xds.data.codec.rpc.bolt.options import BoltOptions
from mosn_xds.data.codec.rpc.bolt.status import HTTP_OF, Status, status_for
from mosn_xds.data.codec.rpc.messages import BadFrame, Kind, RpcMessage, RpcRequest, RpcResponse
from mosn_xds.data.codec.rpc.protocol import RpcProtocol, Sniff
from mosn_xds.spec.extensions import ExtensionOptions

HESSIAN2: Final = 1
"""The codec that the proxy's own frames name; they have no content."""


@mypyc_attr(native_class=False)
class Bolt(RpcProtocol):
    """See the module."""

    Options: ClassVar[type[ExtensionOptions]] = BoltOptions
    name = "bolt"
    head_bytes = 24
    edits = True

    def __init__(self, options: ExtensionOptions) -> None:
        super().__init__(options)
        self.sends_goaway = isinstance(options, BoltOptions) and options.goaway

    def sniff(self, prefix: bytes) -> Sniff:
        if not prefix:
            return Sniff.MORE
        if prefix[0] == wire.V2:
            if len(prefix) > 1 and prefix[1] not in (1, 2):
                return Sniff.NO
            begin = prefix[2:6]
        elif prefix[0] == wire.V1:
            begin = prefix[1:5]
        else:
            return Sniff.NO
        if not any(beginning.startswith(begin) for beginning in _BEGINNINGS):
            return Sniff.NO
        return Sniff.YES if len(begin) == 4 else Sniff.MORE

    def frame_bytes(self, data: bytes, at: int) -> int:
        return wire.measure(data, at)

    def from_client(self, frame: bytes) -> RpcMessage:
        return self._read(frame, Kind.REQUEST, Kind.ONEWAY)

    def from_server(self, frame: bytes) -> RpcMessage:
        return self._read(frame, Kind.PUSH, Kind.PUSH)

    def _read(self, frame: bytes, request: Kind, oneway: Kind) -> RpcMessage:
        try:
            is_first = frame[0] == wire.V1
            if frame[1 if is_first else 2] == wire.RESPONSE:
                return self._read_response(frame, is_first)
            ver1 = switch = 0
            if is_first:
                _, type_, command, _, id, _, timeout_ms, name, block, content = _REQUEST_1(frame)
                at = 22
            else:
                proto, ver1, type_, command, _, id, _, switch, timeout_ms, name, block, content = _REQUEST_2(frame)
                if proto != wire.V2:
                    raise BadFrame("unknown_protocol_byte")
                at = 24
        except (IndexError, error):
            raise BadFrame("short_frame") from None
        at += name
        _check_end(frame, at + block + content, ver1 == 2 and switch & 1)
        service, target, method = wire.routing_in(frame, at, block)
        if command == wire.RPC_REQUEST:
            kind = request if type_ == wire.REQUEST else oneway
        elif command == wire.HEARTBEAT:
            kind = Kind.HEARTBEAT
        elif command == wire.GOAWAY:
            kind = Kind.GOAWAY
        else:
            raise BadFrame("unknown_command")
        if type_ > wire.ONEWAY:
            raise BadFrame("unknown_type")
        service = service or target
        return BoltRequest(
            method, b"", service, service, self.version, [], None, True, None,
            frame, id, kind, timeout_ms / 1000 if timeout_ms > 0 else None,
        )  # fmt: skip

    def _read_response(self, frame: bytes, is_first: bool) -> RpcResponse:
        ver1 = switch = 0
        if is_first:
            _, _, command, _, id, _, code, name, block, content = _RESPONSE_1(frame)
            at = 20
        else:
            proto, ver1, _, command, _, id, _, switch, code, name, block, content = _RESPONSE_2(frame)
            if proto != wire.V2:
                raise BadFrame("unknown_protocol_byte")
            at = 22
        at += name
        _check_end(frame, at + block + content, ver1 == 2 and switch & 1)
        if block:
            wire.routing_in(frame, at, block)  # nobody asks who is called, but whether the block is right
        if command == wire.RPC_RESPONSE:
            kind = Kind.RESPONSE
        elif command == wire.HEARTBEAT:
            kind = Kind.HEARTBEAT_REPLY
        else:
            raise BadFrame("unknown_command")
        return BoltResponse(HTTP_OF.get(code, 500), [], self.version, b"", None, frame, id, kind, code)

    def with_id(self, frame: bytes, id: int) -> bytes:
        return wire.patched(frame, 5 if frame[0] == wire.V1 else 6, _U32(id))

    def answer(self, frame: bytes, request: RpcRequest) -> bytes:
        """As the base says. Also in the version of the request: a Java server answers all that comes on a connection in the
        version of the first frame, and a client that knows one version only may share that connection with others."""
        return self.with_id(wire.in_form_of(frame, request.frame), request.id)

    def edit_request(self, request: RpcRequest) -> bytes:
        """As the base says. Raises BadFrame if the fields do not fit into a header block (65,535 bytes)."""
        return wire.with_fields(request.frame, request.fields)

    def edit_response(self, response: RpcResponse) -> bytes:
        """As the base says. Raises BadFrame if the fields do not fit into a header block (65,535 bytes)."""
        return wire.with_fields(response.frame, response.fields)

    def with_timeout(self, frame: bytes, timeout_s: float) -> bytes:
        """The request with this time-out, but never a longer one than it has."""
        at = 10 if frame[0] == wire.V1 else 12
        present: int = _I32.unpack_from(frame, at)[0]
        timeout_ms = min(max(round(timeout_s * 1000), 1), 0x7FFFFFFF)
        if 0 < present <= timeout_ms:
            return frame
        return wire.patched(frame, at, _I32.pack(timeout_ms))

    def reply(self, request: RpcRequest, status: int, reason: str) -> bytes:
        return _answer(request, wire.RPC_RESPONSE, status_for(status, reason))

    def heartbeat(self, id: int) -> bytes:
        return wire.REQUEST_1.pack(wire.V1, wire.REQUEST, wire.HEARTBEAT, 1, id, HESSIAN2, -1, 0, 0, 0)

    def heartbeat_reply(self, request: RpcRequest) -> bytes:
        return _answer(request, wire.HEARTBEAT, Status.SUCCESS)

    def goaway(self) -> bytes:
        if not self.sends_goaway:
            return b""
        return wire.REQUEST_1.pack(wire.V1, wire.REQUEST, wire.GOAWAY, 1, 0, HESSIAN2, 0, 0, 0, 0)


def _check_end(frame: bytes, end: int, has_crc: bool | int) -> None:
    if len(frame) != (end + 4 if has_crc else end):
        raise BadFrame("wrong_length")
    if has_crc:
        wire.check_crc(frame)


def _answer(request: RpcRequest, command: int, status: int) -> bytes:
    frame = request.frame
    if frame[0] == wire.V1:
        return wire.RESPONSE_1.pack(wire.V1, wire.RESPONSE, command, 1, request.id, frame[9], status, 0, 0, 0)
    return wire.with_crc(
        wire.RESPONSE_2.pack(
            wire.V2, frame[1], wire.RESPONSE, command, 1, request.id, frame[10], frame[11], status, 0, 0, 0
        )
    )


# Type, command and ver2 of what a client may begin with.
_BEGINNINGS: Final = tuple(
    bytes((type_, 0, command, 1))
    for type_ in (wire.REQUEST, wire.ONEWAY)
    for command in (wire.HEARTBEAT, wire.RPC_REQUEST, wire.GOAWAY)
)
_REQUEST_1: Final = wire.REQUEST_1.unpack_from
_REQUEST_2: Final = wire.REQUEST_2.unpack_from
_RESPONSE_1: Final = wire.RESPONSE_1.unpack_from
_RESPONSE_2: Final = wire.RESPONSE_2.unpack_from
_U32: Final = Struct(">I").pack
_I32: Final = Struct(">i")
