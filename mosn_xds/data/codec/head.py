"""The head of a message: what matchers, filters, the router and the access log read, whatever the protocol on the wire.

A head keeps its fields as (lower-case name, value) pairs in wire order, duplicates kept. What frames a message or
belongs to one hop only (``transfer-encoding``, ``connection`` and what it nominates, ``keep-alive``) is taken out by the
codec that received it and put in again by the codec that sends it, so nobody in between has to know about it; the
exception is a request to upgrade, which keeps ``connection`` and ``upgrade`` as they came. ``host`` and HTTP/2's pseudo
headers are attributes of a `RequestHead`, not fields; the methods answer to their names all the same.

`fields` may be read and edited in place. There is no index over it: one that is checked for staleness at each question
saves less than it costs for the dozen fields that messages have (0.2 us for a scan of 8).

Nothing here knows a protocol's wire format, a socket or a configuration.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import msgspec

from mosn_xds.data.codec.fields import put_in, take_out, value_in, values_in

if TYPE_CHECKING:
    from mosn_xds.data.codec.rpc.protocol import RpcProtocol

Field = tuple[bytes, bytes]
Fields = list[Field]


class Version:
    """The protocol a message came in; `label` is `%PROTOCOL%` in access logs.

    HTTP's are the constants here. Of an RPC protocol each configured codec has one of its own, whose `rpc` is that codec.
    """

    __slots__ = ("label", "rpc")

    HTTP10: "ClassVar[Version]"
    HTTP11: "ClassVar[Version]"
    HTTP2: "ClassVar[Version]"

    def __init__(self, label: str, rpc: "RpcProtocol | None" = None) -> None:
        self.label = label
        self.rpc = rpc

    def __repr__(self) -> str:
        return f"<Version {self.label}>"


Version.HTTP10 = Version("HTTP/1.0")
Version.HTTP11 = Version("HTTP/1.1")
Version.HTTP2 = Version("HTTP/2")


class Head:
    """What request and response heads have in common: looking at the fields and changing them. Names are lower-case.

    `names` holds the case in which names were received (lower-case name -> name), only where the listener or the
    cluster asks to preserve it.
    """

    if not TYPE_CHECKING:  # a mix-in of structs has no room of its own
        __slots__ = ()

    fields: Fields
    version: Version
    names: dict[bytes, bytes] | None
    keeps_case: ClassVar[bool] = False
    """Whether the names of fields are in the case in which they came, as those of RPCs are."""

    def get(self, name: bytes) -> bytes | None:
        """The value of a field, of repeated ones joined by ``,`` as Envoy joins them for matching; None when absent."""
        found = value_in(self.fields, name)
        if found is None and (name[:1] == b":" or name == b"host"):
            return self._pseudo(name)
        return found

    def get_all(self, name: bytes) -> list[bytes]:
        """Each value of a field on its own, in wire order."""
        values = values_in(self.fields, name)
        if not values:
            pseudo = self._pseudo(name)
            if pseudo is not None:
                values.append(pseudo)
        return values

    def add(self, name: bytes, value: bytes) -> None:
        """Append a field, beside those of that name that are there. A pseudo header is replaced."""
        value = one_line(value)
        if not self._set_pseudo(name, value):
            self.fields.append((name, value))

    def set(self, name: bytes, value: bytes) -> None:
        """Make this the only field of that name: in the place of the first one, else at the end."""
        if 0x0A in value or 0x0D in value or 0 in value:
            value = one_line(value)
        if (name[:1] == b":" or name == b"host") and self._set_pseudo(name, value):
            return
        put_in(self.fields, name, value)

    def replace(self, name: bytes, value: bytes) -> bool:
        """`set`, but only if such a field is there; says whether it was."""
        if self.get(name) is None:
            return False
        self.set(name, value)
        return True

    def remove(self, name: bytes) -> bool:
        """Take out all fields of that name; says whether there was one."""
        return take_out(self.fields, name)

    def _pseudo(self, name: bytes) -> bytes | None:
        raise NotImplementedError

    def _set_pseudo(self, name: bytes, value: bytes) -> bool:
        raise NotImplementedError


class RequestHead(Head, msgspec.Struct, gc=False):
    """A request's head.

    `authority` is the Host header or ``:authority``; ``b""`` when it was sent empty, None when it was not sent.
    `scheme` is empty until the request (absolute form, HTTP/2) or the connection manager says it. `path` holds the query
    too; it is ``*`` for ``OPTIONS *`` and empty for CONNECT. `upgrade` is the lower-cased token of a request to upgrade
    (``websocket``). `keep_alive` is False if the client said that this is its last request on the connection.
    """

    method: bytes
    scheme: bytes
    authority: bytes | None
    path: bytes
    version: Version
    fields: Fields
    upgrade: bytes | None = None
    keep_alive: bool = True
    names: dict[bytes, bytes] | None = None

    def copy(self) -> "RequestHead":
        """A head of its own with the same content: for a mirror, or an attempt that edits it."""
        return RequestHead(
            self.method, self.scheme, self.authority, self.path, self.version, list(self.fields),
            self.upgrade, self.keep_alive, self.names,
        )  # fmt: skip

    def _pseudo(self, name: bytes) -> bytes | None:
        attribute = _REQUEST_PSEUDO.get(name)
        return None if attribute is None else getattr(self, attribute) or None

    def _set_pseudo(self, name: bytes, value: bytes) -> bool:
        attribute = _REQUEST_PSEUDO.get(name)
        if attribute is None:
            return False
        setattr(self, attribute, value)
        return True

    def __repr__(self) -> str:
        target = f"{_text(self.authority or b'-')}{_text(self.path)}"
        return f"<RequestHead {_text(self.method)} {target} {self.version.label}, {len(self.fields)} fields>"


class ResponseHead(Head, msgspec.Struct, gc=False):
    """A response's head. `reason` is for protocols that carry a phrase of their own; HTTP/1 sends the standard one."""

    status: int
    fields: Fields
    version: Version = Version.HTTP11
    reason: bytes = b""
    names: dict[bytes, bytes] | None = None

    def copy(self) -> "ResponseHead":
        """A head of its own with the same content."""
        return ResponseHead(self.status, list(self.fields), self.version, self.reason, self.names)

    def _pseudo(self, name: bytes) -> bytes | None:
        return b"%d" % self.status if name == b":status" else None

    def _set_pseudo(self, name: bytes, value: bytes) -> bool:
        if name != b":status":
            return False
        self.status = int(value)
        return True

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.version.label}, {len(self.fields)} fields>"


_REQUEST_PSEUDO = {
    b":method": "method",
    b":scheme": "scheme",
    b":authority": "authority",
    b":path": "path",
    b"host": "authority",
}


def fields_of(pairs: Iterable[tuple[str, str]]) -> Fields:
    """Fields from text, names lower-cased: for configuration, local replies and tests."""
    return [(name.lower().encode("latin-1"), value.encode()) for name, value in pairs]


def one_line(value: bytes) -> bytes:
    """`value` with blanks for what would end a line on an HTTP/1 wire: a filter may have made it of somebody's data."""
    # A search for a number, as for `b"\n" in value` CPython makes, and drops, a TypeError first (0.02 against 0.1 us each).
    if 0x0A in value or 0x0D in value or 0 in value:
        return value.translate(_BLANK_LINE_ENDS)
    return value


_BLANK_LINE_ENDS = bytes.maketrans(b"\r\n\0", b"   ")


def _text(value: bytes) -> str:
    return value.decode("latin-1")
