"""RPC messages: a frame as it came, with what routing, balancing, retries and logs want to know of it.

They are heads (`mosn_xds.data.codec.head`, each a msgspec.Struct), so that all that works on HTTP requests works on them: the
properties of an RPC (Bolt's headers, Dubbo's attachments) are `fields`, its method is `method`, its service stands in
`authority`. Unlike those of HTTP, names of properties are in the case in which they came: a look-up tries the very name
first, then any case.

The body is in `frame`, unread. A message whose `fields` nobody has changed is sent on as the frame that it came in, but for
its id; `edited` tells.
"""

from enum import IntEnum
from typing import ClassVar

from mosn_xds.data.codec.head import Fields, RequestHead, ResponseHead, Version


class BadFrame(Exception):
    """What came is no frame of the protocol. The text is for logs: what is wrong, in a few words with underscores."""


class Kind(IntEnum):
    """What a frame is for."""

    REQUEST = 0
    ONEWAY = 1
    """A request without an answer."""
    RESPONSE = 2
    HEARTBEAT = 3
    """Asks for a sign of life."""
    HEARTBEAT_REPLY = 4
    GOAWAY = 5
    """The peer takes no more requests on this connection."""
    PUSH = 6
    """From a server, of its own accord."""


class RpcRequest(RequestHead, gc=False):
    """A request, or what else a client says.

    `id` relates it to its response on its connection. `timeout_s` is how long its client waits, None if it does not say;
    `limit_s`, how long its server is told to take, None for what the frame says. `original` are the fields as they came.
    """

    frame: bytes = b""
    id: int = 0
    kind: Kind = Kind.REQUEST
    timeout_s: float | None = None
    original: Fields | None = None
    keeps_case: ClassVar[bool] = True
    limit_s: float | None = None

    @classmethod
    def of(
        cls,
        version: Version,
        frame: bytes,
        id: int,
        *,
        service: bytes = b"",
        method: bytes = b"",
        path: bytes | None = None,
        properties: Fields | None = None,
        kind: Kind = Kind.REQUEST,
        timeout_s: float | None = None,
    ) -> "RpcRequest":
        """A request as its codec finds it. `path` is the service where the protocol has nothing else."""
        fields = properties or []
        return cls(
            method, b"", service, service if path is None else path, version, fields, None, True, None,
            frame, id, kind, timeout_s, list(fields),
        )  # fmt: skip

    @property
    def service(self) -> bytes:
        return self.authority or b""

    @property
    def edited(self) -> bool:
        """Whether somebody has changed the properties."""
        return self.fields != self.original

    def get(self, name: bytes) -> bytes | None:
        found = super().get(name)
        if found is None:
            lower = name.lower()
            for field, value in self.fields:
                if field.lower() == lower:
                    return value
        return found

    def get_all(self, name: bytes) -> list[bytes]:
        found = super().get_all(name)
        if not found:
            lower = name.lower()
            found = [value for field, value in self.fields if field.lower() == lower]
        return found

    def copy(self) -> "RpcRequest":
        """A head of its own with the same content and the same frame."""
        return RpcRequest(
            self.method, self.scheme, self.authority, self.path, self.version, list(self.fields),
            None, True, None, self.frame, self.id, self.kind, self.timeout_s, self.original, self.limit_s,
        )  # fmt: skip

    def __repr__(self) -> str:
        what = f"{self.service.decode('latin-1')}.{self.method.decode('latin-1')}"
        return f"<RpcRequest {self.version.label} {self.kind.name.lower()} {self.id} {what}, {len(self.frame)} bytes>"


class RpcResponse(ResponseHead, gc=False):
    """A response, or what else a server says. `status` is HTTP's for retries and statistics, `code` the protocol's own."""

    frame: bytes = b""
    id: int = 0
    kind: Kind = Kind.RESPONSE
    code: int = 0
    original: Fields | None = None

    @classmethod
    def of(
        cls,
        version: Version,
        frame: bytes,
        id: int,
        *,
        status: int,
        code: int = 0,
        properties: Fields | None = None,
        kind: Kind = Kind.RESPONSE,
    ) -> "RpcResponse":
        """A response as its codec finds it."""
        fields = properties or []
        return cls(status, fields, version, b"", None, frame, id, kind, code, list(fields))

    @property
    def failed(self) -> bool:
        """Whether it counts as an error: by its status, or because it brings an exception."""
        return self.status >= 400

    @property
    def edited(self) -> bool:
        """Whether somebody has changed the properties."""
        return self.fields != self.original

    def __repr__(self) -> str:
        return (
            f"<RpcResponse {self.version.label} {self.kind.name.lower()} {self.id} code {self.code}, "
            f"{len(self.frame)} bytes>"
        )


RpcMessage = RpcRequest | RpcResponse
