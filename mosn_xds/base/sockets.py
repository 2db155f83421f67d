"""Making the sockets that a proxy listens on: both halves know how, neither needs the other for it.

A TCP address gets one socket per worker, all in one SO_REUSEPORT group, among which the kernel spreads connections. Such a
group lets anybody of the same user join, so a port that a stranger holds would not be noticed: the first bind is done by a
*guard* without the option, which fails where anybody else is, and leaves when the group has been bound beside it.

A bound socket receives nothing before it listens; `shutdown(SHUT_RDWR)` takes a listening socket out of its group (its
queue is reset, the address stays bound), and `listen` lets it join again. Options set on a listening socket pass to the
connections that it accepts: TCP_NODELAY and keep-alive are set once here and cost nothing per connection. They can be
changed while it listens (`change_options`): another socket in its place would mean that connections that nobody has
accepted yet, and handshakes under way, end with the old one.

Addresses are plain: `host` is a literal IP, or a unix path (``/path``, ``./path``, ``@name`` for an abstract one); names
are not resolved here.
"""

import contextlib
import errno
import os
import resource
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass

_IP_TRANSPARENT, _IPV6_TRANSPARENT = 19, 75
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
_SO_BUF_LOCK = 72
_BUFFERS = ((socket.SOL_SOCKET, socket.SO_RCVBUF), (socket.SOL_SOCKET, socket.SO_SNDBUF))
_SOMAXCONN_FILE = "/proc/sys/net/core/somaxconn"

SocketAddress = tuple[str, int] | str | bytes
"""What `socket.bind` and `socket.connect` take."""


class BindError(Exception):
    """An address that cannot be listened on; `errno` says why, the text is Envoy's."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.errno = number


@dataclass(frozen=True, slots=True)
class Keepalive:
    """SO_KEEPALIVE and what it is made of; None leaves the kernel's value."""

    probes: int | None = None
    time_s: int | None = None
    interval_s: int | None = None


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """What a listening socket is made of besides its address.

    `transparent` and `freebind` allow addresses that are not this machine's (the former needs CAP_NET_ADMIN).
    `ipv4_compat` lets an IPv6 wildcard take IPv4 connections. `options` are raw (level, name, value).
    """

    reuse_port: bool = True
    transparent: bool = False
    freebind: bool = False
    ipv4_compat: bool = False
    keepalive: Keepalive | None = None
    options: tuple[tuple[int, int, int | bytes], ...] = ()
    unix_mode: int | None = None


def is_unix(host: str) -> bool:
    return host[:1] in ("/", "@", ".")


def family_of(host: str) -> socket.AddressFamily:
    if is_unix(host):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def socket_address(host: str, port: int) -> SocketAddress:
    if host.startswith("@"):
        return b"\0" + host[1:].encode()
    return host if is_unix(host) else (host, port)


def address_text(host: str, port: int) -> str:
    """As Envoy prints it: ``1.2.3.4:80``, ``[::1]:80``, ``/path``."""
    if is_unix(host):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind_sockets(
    host: str, port: int, count: int, options: ListenOptions = ListenOptions(), *, joining: bool = False
) -> list[socket.socket]:
    """Bound, non-blocking sockets that do not listen yet: `count` of them, or one if they cannot share the address.

    `joining` says that sockets of ours hold the address already. Port 0 lets the kernel choose, once for all.
    Raises BindError.
    """
    if not is_unix(host) and not _is_literal(host):
        raise BindError(f"malformed IP address: {host}", errno.EINVAL)
    made: list[socket.socket] = []
    try:
        if is_unix(host):
            made.append(_bind_unix(host, options))
        elif not options.reuse_port:
            made.append(_bind(host, port, options, shared=False))
        elif joining:
            made.extend(_bind(host, port, options, shared=True) for _ in range(count))
        else:
            with _bind(host, port, options, shared=False) as guard:
                guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                port = guard.getsockname()[1]
                made.extend(_bind(host, port, options, shared=True) for _ in range(count))
    except OSError as error:
        for sock in made:
            sock.close()
        raise BindError(f"cannot bind '{address_text(host, port)}': {error.strerror}", error.errno or 0) from error
    return made


def _is_literal(host: str) -> bool:
    try:
        socket.inet_pton(family_of(host), host.partition("%")[0])
    except OSError:
        return False
    return True


def _bind(host: str, port: int, options: ListenOptions, *, shared: bool) -> socket.socket:
    family = family_of(host)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not options.ipv4_compat)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _set_options(sock, _changeable(family, options))
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(host: str, options: ListenOptions) -> socket.socket:
    address = socket_address(host, 0)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _set_options(sock, _changeable(socket.AF_UNIX, options))
        if isinstance(address, str):
            _remove_stale(address)
        sock.bind(address)
        if isinstance(address, str) and options.unix_mode is not None:
            os.chmod(address, options.unix_mode)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on. What is no socket, or answers, stays: bind will say EADDRINUSE."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def set_keepalive(sock: socket.socket, keepalive: Keepalive) -> None:
    """Raises OSError for values that the kernel refuses."""
    _set_options(sock, _keepalive(keepalive))


_Settings = dict[tuple[int, int], int | bytes]
"""Values by (level, name), in the order in which they are set."""


def _keepalive(keepalive: Keepalive) -> _Settings:
    found: _Settings = {(socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1}
    for name, value in (
        (socket.TCP_KEEPCNT, keepalive.probes),
        (socket.TCP_KEEPIDLE, keepalive.time_s),
        (socket.TCP_KEEPINTVL, keepalive.interval_s),
    ):
        if value is not None:
            found[socket.IPPROTO_TCP, name] = value
    return found


def _changeable(family: int, options: ListenOptions) -> _Settings:
    """What of `options` holds for a socket that is bound as well as for a new one."""
    found: _Settings = {}
    if family != socket.AF_UNIX:
        v6 = family == socket.AF_INET6
        level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
        found[socket.IPPROTO_TCP, socket.TCP_NODELAY] = 1
        if options.transparent:
            found[level, _IPV6_TRANSPARENT if v6 else _IP_TRANSPARENT] = 1
        if options.freebind:
            found[level, _IPV6_FREEBIND if v6 else _IP_FREEBIND] = 1
        if options.keepalive is not None:
            found |= _keepalive(options.keepalive)
    for level, name, value in options.options:
        found[level, name] = value
    return found


def _set_options(sock: socket.socket, settings: _Settings) -> None:
    for (level, name), value in settings.items():
        sock.setsockopt(level, name, value)


def change_options(socks: Sequence[socket.socket], before: ListenOptions, after: ListenOptions) -> None:
    """Make sockets that were bound with `before` what they were had they been bound with `after`; they may be listening.

    What `after` does not speak of becomes what a new socket has. The bind itself stays: `reuse_port`, `ipv4_compat` and
    `unix_mode` have no effect. Raises OSError, and the sockets are as before, for what the kernel refuses to a bound
    socket.
    """
    family = socks[0].family
    old, new = _changeable(family, before), _changeable(family, after)
    changes = {key: value for key, value in new.items() if old.get(key) != value}
    left = _defaults(family, {key: value for key, value in old.items() if key not in new})
    try:
        for sock in socks:
            _set_options(sock, changes | left)
            _free_buffers(sock, left)
    except OSError:
        with contextlib.suppress(OSError):  # an option that can be set, but not asked for
            undo = _defaults(family, {key: value for key, value in changes.items() if key not in old}) | old
            for sock in socks:
                _set_options(sock, undo)
        raise


def check_change(host: str, before: ListenOptions, after: ListenOptions) -> None:
    """Whether `change_options` would succeed for sockets bound to `host`. Raises BindError."""
    if before == after:
        return
    family = family_of(host)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            if family != socket.AF_UNIX:
                trial.bind(("", 0))
            _set_options(trial, _changeable(family, before))
            change_options([trial], before, after)
    except OSError as error:
        raise BindError(f"cannot change the socket options of '{host}': {error.strerror}", error.errno or 0) from error


def _defaults(family: int, settings: _Settings) -> _Settings:
    """What a new socket has in place of `settings`. Raises OSError for what cannot be asked for."""
    found: _Settings = {}
    with socket.socket(family, socket.SOCK_STREAM) as fresh:
        for key, value in settings.items():
            if isinstance(value, bytes):
                found[key] = fresh.getsockopt(*key, len(value))
            else:
                now = fresh.getsockopt(*key)
                found[key] = now // 2 if key in _BUFFERS else now  # the kernel doubles what it is told
    return found


def _free_buffers(sock: socket.socket, settings: _Settings) -> None:
    """A buffer whose size was set once does not grow any more; one that is not set any more does."""
    if any(key in settings for key in _BUFFERS):
        with contextlib.suppress(OSError):  # Linux 5.14
            sock.setsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK, 0)


def listen_backlog(configured: int | None) -> int:
    """Envoy's `tcp_backlog_size`, else the kernel's somaxconn."""
    if configured is not None:
        return configured
    try:
        with open(_SOMAXCONN_FILE) as file:
            return int(file.read())
    except (OSError, ValueError):  # no /proc: the C library's constant
        return socket.SOMAXCONN


def raise_descriptor_limit() -> int:
    """RLIMIT_NOFILE to its hard limit; returns what holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # some kernels refuse "unlimited": keep what there is
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return hard
    return soft
