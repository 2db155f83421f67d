"""Connecting to an upstream host: non-blocking, with a deadline, by TCP or unix socket. Names are not resolved here."""

import socket
from dataclasses import dataclass
from typing import NamedTuple

from mosn_xds.base.sockets import Keepalive, family_of, set_keepalive, socket_address
from mosn_xds.data.net.consumer import WireConsumer
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.secure_wire import Secured, SecureWire, Securing
from mosn_xds.data.net.wire import Wire
from mosn_xds.spec.common import Address

_IP_BIND_ADDRESS_NO_PORT = 24
"""From <netinet/in.h>: leave the choice of a source port to connect, where one port serves for many peers."""


@dataclass(frozen=True, slots=True)
class DialOptions:
    """What a cluster says about its connections; one object for all of them.

    `source` is the local address to connect from (port 0: any), `mark` is SO_MARK (needs CAP_NET_ADMIN).
    """

    timeout_s: float | None = None
    buffer_limit_bytes: int = 1 << 20
    source: Address | None = None
    keepalive: Keepalive | None = None
    mark: int | None = None


class Preamble(NamedTuple):
    """What goes ahead of everything else on a connection, and how the connection is secured behind it."""

    data: bytes
    secure: Securing | None


def dial(
    reactor: Reactor,
    address: Address,
    consumer: WireConsumer,
    options: DialOptions,
    secure: Securing | Preamble | None = None,
) -> Wire:
    """A wire that connects to `address`; `consumer` hears `on_connected` or `on_closed`, never before this returns.

    Every failure is CONNECT_FAILED with `Wire.error`, or CONNECT_TIMEOUT: also a lack of descriptors, or a bad option.
    `secure` makes the transport above the socket, whose handshake comes before `on_connected`.
    """
    preamble = b""
    if isinstance(secure, Preamble):
        preamble, secure = secure
    failure: OSError | None = None
    secured: Secured | None = None
    try:
        sock = socket.socket(family_of(address.host), socket.SOCK_STREAM)
    except OSError as error:
        sock = socket.socket.__new__(socket.socket)  # one without a descriptor
        failure = error
    else:
        try:
            sock.setblocking(False)
            _prepare(sock, options)
            if secure is not None:
                secured = secure(sock)
        except OSError as error:
            failure = error
    limit = options.buffer_limit_bytes
    if secured is None:
        wire = Wire(reactor, sock, consumer, buffer_limit_bytes=limit, remote_address=address)
    else:
        wire = SecureWire(reactor, sock, consumer, secured, buffer_limit_bytes=limit, remote_address=address)
        if preamble:
            secured.transport.precede(preamble)
    if failure is not None:
        wire.fail_to_connect(failure)
    else:
        wire.connect(socket_address(address.host, address.port), options.timeout_s)
        if preamble and secured is None:
            wire.write(preamble)
    return wire


def _prepare(sock: socket.socket, options: DialOptions) -> None:
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if options.keepalive is not None:
        set_keepalive(sock, options.keepalive)
    if options.mark is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, options.mark)
    source = options.source
    if source is not None:
        if not source.port:
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source.host, source.port))
