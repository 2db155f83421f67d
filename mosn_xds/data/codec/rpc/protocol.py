"""The descriptor of an RPC protocol: all that the engine has to know to serve it. Ours and those of third parties are alike.

A protocol is a class below `RpcProtocol`, made known by an entry point ``mosn_xds.protocols`` and built once per place that
configures it. It is without state: connections, ids, waiting and time are the engine's. It says

- where a frame ends (`frame_bytes`) and whether a connection's first bytes are its own (`sniff`);
- what a frame means (`from_client`, `from_server`), reading as little of it as that takes, never the body;
- how a frame looks under another id (`with_id`) and with other properties (`edit_request`, `edit_response`);
- what the proxy says itself: an error (`reply`), signs of life (`heartbeat`, `heartbeat_reply`), an end (`goaway`).

What a peer sent is never trusted: whatever cannot be right raises `BadFrame`, which costs that peer its connection. Nothing
else may be raised for it, and nothing may be decoded further than the frame's own length.
"""

from collections.abc import Hashable
from enum import Enum
from typing import ClassVar, Final

from mypy_extensions import mypyc_attr

from mosn_xds.data.codec.head import Version
from mosn_xds.data.codec.rpc.messages import RpcMessage, RpcRequest, RpcResponse
from mosn_xds.data.codec.rpc.options import RpcOptions
from mosn_xds.spec.extensions import PROTOCOLS, Extension, ExtensionOptions

MORE: Final = 0
"""From `frame_bytes`: too little has come to know."""


class Sniff(Enum):
    """Whether a connection speaks a protocol."""

    YES = "yes"
    NO = "no"
    MORE = "too little to tell"


class PoolMode(Enum):
    """How requests share upstream connections."""

    MULTIPLEX = "many at once"
    PING_PONG = "one at a time"
    BOUND = "each client has a connection of its own"


@mypyc_attr(native_class=False)  # others derive from it
class RpcProtocol(Extension):
    """See the module. `options` are an instance of `Options`."""

    GROUP = PROTOCOLS
    Options: ClassVar[type[ExtensionOptions]] = RpcOptions

    name: ClassVar[str] = ""
    """What configuration, logs (`%PROTOCOL%`) and statistics call it."""
    pool: ClassVar[PoolMode] = PoolMode.MULTIPLEX
    has_ids: ClassVar[bool] = True
    """Whether a client tells answers apart by ids. If not, it is given them in the order of its requests, one at a time; `pool`
    is PING_PONG or BOUND then."""
    head_bytes: ClassVar[int] = 64
    """So many bytes of a frame always suffice for `frame_bytes`, and for `sniff`."""
    has_properties: ClassVar[bool] = True
    """Whether its requests may have properties: where not, routes that look for one are told so (`/xds`)."""
    edits: ClassVar[bool] = False
    """Whether `edit_request` and `edit_response` are there: whether filters may change properties."""

    def __init__(self, options: ExtensionOptions) -> None:
        if not isinstance(options, RpcOptions):
            raise TypeError(f"{type(self).__name__}: options must derive from RpcOptions")
        if self.pool is PoolMode.MULTIPLEX and not self.has_ids:
            raise TypeError(f"{type(self).__name__}: without ids, calls cannot share a connection")
        self.max_frame_bytes = options.max_frame_bytes
        self.max_unread_bytes = options.max_unread_bytes
        self.heartbeat_interval_s = options.heartbeat_interval_s
        self.heartbeat_timeout_s = options.heartbeat_timeout_s
        self.version = Version(self.name, self)
        """What this protocol's messages say of their origin."""
        self.key: Hashable = (self.name, options)
        """Connections of protocols with equal keys may be shared."""

    # Framing.

    def sniff(self, prefix: bytes) -> Sniff:
        """Whether a connection that begins with `prefix` speaks this protocol. NO unless the protocol can tell."""
        del prefix
        return Sniff.NO

    def frame_bytes(self, data: bytes, at: int) -> int:
        """The length of the frame that begins at `at`, all of it, or MORE. Raises BadFrame."""
        raise NotImplementedError

    # Meaning.

    def from_client(self, frame: bytes) -> RpcMessage:
        """What a client said with this whole frame. Raises BadFrame."""
        raise NotImplementedError

    def from_server(self, frame: bytes) -> RpcMessage:
        """What a server said with this whole frame: a response, or a request of kind HEARTBEAT, GOAWAY, PUSH. Raises BadFrame."""
        raise NotImplementedError

    # Changes.

    def with_id(self, frame: bytes, id: int) -> bytes:
        """The same frame under another id: one that a frame of its kind came with, or one of the proxy's, from 1 to 2^31 - 1."""
        if self.has_ids:
            raise NotImplementedError
        del id
        return frame

    def answer(self, frame: bytes, request: RpcRequest) -> bytes:
        """A server's response as `request` is to be answered: under its id, and whatever else its client may rely on."""
        return self.with_id(frame, request.id)

    def edit_request(self, request: RpcRequest) -> bytes:
        """The request's frame with its present `fields`. As it came, where the protocol has no place for them."""
        return request.frame

    def edit_response(self, response: RpcResponse) -> bytes:
        """The response's frame with its present `fields`. As it came, where the protocol has no place for them."""
        return response.frame

    def with_timeout(self, frame: bytes, timeout_s: float) -> bytes:
        """The same request telling its server how long its client waits. As it is, where the protocol has no such field."""
        del timeout_s
        return frame

    # What the proxy says.

    def reply(self, request: RpcRequest, status: int, reason: str) -> bytes:
        """An answer to `request`, under its id, from the proxy itself: `status` is HTTP's, `reason` a text for people."""
        raise NotImplementedError

    def heartbeat(self, id: int) -> bytes:
        """A frame that asks for a sign of life; empty if the protocol has none."""
        del id
        return b""

    def heartbeat_reply(self, request: RpcRequest) -> bytes:
        """The answer to a HEARTBEAT; empty if it needs none."""
        del request
        return b""

    def goaway(self) -> bytes:
        """A frame that asks the client to send no more requests on this connection; empty if the protocol has none."""
        return b""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"
