"""Dubbo 2: a header of 16 bytes, and a body whose first strings say what is called.

::

    0xdabb | flag | status | id, 64 bits | length of the body, 32 bits | body

The flag's bit 7 marks a request, 6 one with an answer, 5 an event (heartbeats, and hints of servers), 0 to 4 name the
serialization. The body of a request is the version of Dubbo, the service's path, the service's version, the method, the
types of arguments, the arguments, and a map of attachments; that of a good response is the type of its result, the result
and, with some types, attachments; that of an error is a text (https://cn.dubbo.apache.org/en/overview/reference/protocols/tcp/).

What Envoy's codec of generic_proxy gives to routes is the same here: host and path are the path in the frame, `version`
is the service's, other properties are attachments. Its error answers are 80 (SERVER_ERROR), or 40 (BAD_REQUEST), and so
are these, but for what the options say of two of them, with the reason both as the text that clients show and as the
attachment ``reason`` that Envoy writes. Responses of any status pass; those that Envoy does not know cost a server its
connection there.
"""

import struct
from typing import ClassVar, Final

from mypy_extensions import mypyc_attr

from mosn_xds.data.codec.head import Fields
from mosn_xds.data.codec.rpc.dubbo import attachments, hessian2
from mosn_xds.data.codec.rpc.dubbo.messages import ERROR, EXCEPTION, HEAD_BYTES, DubboRequest, DubboResponse
from mosn_xds.data.codec.rpc.dubbo.options import DubboOptions
from mosn_xds.data.codec.rpc.messages import BadFrame, Kind, RpcMessage, RpcRequest, RpcResponse
from mosn_xds.data.codec.rpc.protocol import MORE, RpcProtocol, Sniff
from mosn_xds.spec.extensions import ExtensionOptions

MAGIC: Final = b"\xda\xbb"
OK: Final = 20
BAD_REQUEST: Final = 40
SERVER_ERROR: Final = 80
HESSIAN2: Final = 2

HTTP_STATUSES: Final = {
    20: 200,  # OK
    25: 500,  # SERIALIZATION_ERROR
    30: 504,  # CLIENT_TIMEOUT
    31: 504,  # SERVER_TIMEOUT
    35: 503,  # CHANNEL_INACTIVE
    40: 400,  # BAD_REQUEST
    50: 502,  # BAD_RESPONSE
    60: 404,  # SERVICE_NOT_FOUND
    70: 500,  # SERVICE_ERROR
    80: 500,  # SERVER_ERROR
    90: 400,  # CLIENT_ERROR
    100: 503,  # SERVER_THREADPOOL_EXHAUSTED_ERROR
}
"""What a response's status is to retries and statistics; any other is 500."""

_LENGTH: Final = struct.Struct(">2s10xi")
_HEAD: Final = struct.Struct(">BBQ")
_REQUEST: Final = 0x80
_TWO_WAY: Final = 0x40
_EVENT: Final = 0x20
_SERIALIZATION: Final = 0x1F
_READONLY: Final = b"\x01R"

_RESULTS: Final = (EXCEPTION, b"value", attachments.NULL)
"""By their numbers, which are greater by three where attachments follow."""
_FIRST_RESULT: Final = 0x90  # the int 0


@mypyc_attr(native_class=False)
class Dubbo(RpcProtocol):
    """Dubbo 2 with Hessian 2.

    Properties are attachments by their names, and a few more, see `DubboRequest` and `DubboResponse`.
    """

    Options: ClassVar[type[ExtensionOptions]] = DubboOptions
    name: ClassVar[str] = "dubbo"
    head_bytes: ClassVar[int] = HEAD_BYTES
    edits: ClassVar[bool] = True

    def __init__(self, options: ExtensionOptions) -> None:
        super().__init__(options)
        if not isinstance(options, DubboOptions):
            raise TypeError("Dubbo has DubboOptions")
        self._opaque = options.opaque_serializations
        self._reply_statuses = {400: BAD_REQUEST, 404: options.no_route_status, 504: options.timeout_status}

    def sniff(self, prefix: bytes) -> Sniff:
        if prefix[:2] != MAGIC[: len(prefix)]:
            return Sniff.NO
        if len(prefix) < 3:
            return Sniff.MORE
        known = self._opaque or prefix[2] & _SERIALIZATION == HESSIAN2
        return Sniff.YES if known else Sniff.NO

    def frame_bytes(self, data: bytes, at: int) -> int:
        if len(data) - at < HEAD_BYTES:
            head = data[at : at + len(MAGIC)]
            if head != MAGIC[: len(head)]:
                raise BadFrame("dubbo_bad_magic")
            return MORE
        magic, size = _LENGTH.unpack_from(data, at)
        if magic != MAGIC:
            raise BadFrame("dubbo_bad_magic")
        if size < 0:
            raise BadFrame("dubbo_negative_length")
        return HEAD_BYTES + int(size)

    def from_client(self, frame: bytes) -> RpcMessage:
        flag, _, id = _head(frame)
        if flag & _EVENT:
            return self._event(frame, flag, id)
        if not flag & _REQUEST:
            raise BadFrame("dubbo_response_from_client")
        kind = Kind.REQUEST if flag & _TWO_WAY else Kind.ONEWAY
        if flag & _SERIALIZATION != HESSIAN2:
            self._check_serialization(flag)
            return RpcRequest.of(self.version, frame, id, kind=kind)
        (_, service, _, method), at = hessian2.read_strings(frame, HEAD_BYTES, 4)
        return DubboRequest(
            method, b"", service, service, self.version, [], None, True, None, frame, id, kind, types_at=at
        )  # fmt: skip

    def from_server(self, frame: bytes) -> RpcMessage:
        flag, code, id = _head(frame)
        if flag & _EVENT:
            return self._event(frame, flag, id)
        if flag & _REQUEST:  # a call back to the client, which only its own connection could bring there
            self._check_serialization(flag)
            return RpcRequest.of(self.version, frame, id, kind=Kind.PUSH)
        if flag & _SERIALIZATION != HESSIAN2:
            self._check_serialization(flag)
            return RpcResponse.of(self.version, frame, id, status=HTTP_STATUSES.get(code, 500), code=code)
        if code == OK:
            kind, at = _result_type(frame)
            original: Fields | None = [] if kind < len(_RESULTS) else None
            result = _RESULTS[kind % len(_RESULTS)]
            return DubboResponse(
                200, [], self.version, b"", None, frame, id, Kind.RESPONSE, OK, original, result, at
            )  # fmt: skip
        return DubboResponse(
            HTTP_STATUSES.get(code, 500), [], self.version, b"", None, frame, id, Kind.RESPONSE, code, None, ERROR, HEAD_BYTES
        )  # fmt: skip

    def _event(self, frame: bytes, flag: int, id: int) -> RpcMessage:
        if not flag & _REQUEST:
            return RpcResponse.of(self.version, frame, id, status=200, code=frame[3], kind=Kind.HEARTBEAT_REPLY)
        kind = Kind.GOAWAY if frame[HEAD_BYTES:] == _READONLY else Kind.HEARTBEAT
        return RpcRequest.of(self.version, frame, id, kind=kind)

    def _check_serialization(self, flag: int) -> None:
        if flag & _SERIALIZATION != HESSIAN2 and not self._opaque:
            raise BadFrame("dubbo_unknown_serialization")

    def with_id(self, frame: bytes, id: int) -> bytes:
        return frame[:4] + id.to_bytes(8, "big") + frame[12:]

    def edit_request(self, request: RpcRequest) -> bytes:
        """With its attachments as the properties are now. Raises BadFrame if its arguments cannot be passed over."""
        if not request.edited:
            return request.frame
        if not isinstance(request, DubboRequest):
            raise BadFrame("dubbo_no_attachments")
        frame = request.frame
        body = hessian2.Body()
        at = attachments.after_arguments(frame, request.types_at, body)
        changed = attachments.edited(frame, at, body, request.fields)
        return _resized(frame, frame[HEAD_BYTES:at] + changed)

    def edit_response(self, response: RpcResponse) -> bytes:
        """With its attachments as the properties are now, which need not have been there (clients know them since 2.6.3).

        Raises BadFrame if its value cannot be passed over.
        """
        if not response.edited:
            return response.frame
        if not isinstance(response, DubboResponse):
            raise BadFrame("dubbo_no_attachments")
        frame = response.frame
        body = hessian2.Body()
        at = attachments.after_value(frame, response.value_at, response.result, body)
        changed = attachments.edited(frame, at, body, response.fields)
        if response.result == ERROR:
            return _resized(frame, frame[HEAD_BYTES:at] + changed)
        kind = frame[response.value_at - 1]  # however long that int is written, this is its last byte
        if kind % _FIRST_RESULT < len(_RESULTS):
            kind += len(_RESULTS)
        begin = frame[HEAD_BYTES : response.value_at - 1] + bytes((kind,))
        return _resized(frame, begin + frame[response.value_at : at] + changed)

    def reply(self, request: RpcRequest, status: int, reason: str) -> bytes:
        text = hessian2.write_string(reason.encode())
        code = self._reply_statuses.get(status, SERVER_ERROR)
        return _frame(HESSIAN2, code, request.id, b"%bH\x06reason%bZ" % (text, text))

    def heartbeat(self, id: int) -> bytes:
        return _frame(_REQUEST | _TWO_WAY | _EVENT | HESSIAN2, 0, id, hessian2.NULL)

    def heartbeat_reply(self, request: RpcRequest) -> bytes:
        return _frame(_EVENT | HESSIAN2, OK, request.id, hessian2.NULL)

    def goaway(self) -> bytes:
        return _frame(_REQUEST | _EVENT | HESSIAN2, 0, 0, _READONLY)


def _head(frame: bytes) -> tuple[int, int, int]:
    """Flag, status and id."""
    if len(frame) < HEAD_BYTES:
        raise BadFrame("dubbo_truncated")
    flag, status, id = _HEAD.unpack_from(frame, 2)
    return flag, status, id


def _frame(flag: int, status: int, id: int, body: bytes) -> bytes:
    return b"%b%c%c%b%b%b" % (MAGIC, flag, status, id.to_bytes(8, "big"), len(body).to_bytes(4, "big"), body)


def _resized(frame: bytes, body: bytes) -> bytes:
    """With another body."""
    return b"%b%b%b" % (frame[:12], len(body).to_bytes(4, "big"), body)


def _result_type(frame: bytes) -> tuple[int, int]:
    """The type of a response's result, and where it ends."""
    kind, at = -1, HEAD_BYTES + 1
    if len(frame) > HEAD_BYTES:
        kind = frame[HEAD_BYTES] - _FIRST_RESULT
    if not 0 <= kind < 2 * len(_RESULTS):
        kind, at = hessian2.read_int(frame, HEAD_BYTES)
        if not 0 <= kind < 2 * len(_RESULTS):
            raise BadFrame("dubbo_unknown_result")
    return kind, at
