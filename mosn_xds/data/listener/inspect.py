"""The listener filters of one connection: what is found out before a filter chain is chosen.

The filters run in order over the accepted socket. They look at its first bytes without taking them (MSG_PEEK), so that
whoever serves the connection reads it from the beginning; the PROXY protocol's header alone is taken. A filter that needs
more bytes waits on the reactor, all of them together for at most the listener's time-out.
"""

import socket
from collections.abc import Callable, Sequence
from enum import Enum
from select import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLRDHUP

from mosn_xds.data.codec.rpc import RpcProtocol
from mosn_xds.data.codec.rpc import Sniff as RpcSniff
from mosn_xds.data.listener.original_dst import original_destination
from mosn_xds.data.listener.proxy_header import MAX_HEADER_BYTES, parse_proxy_header, proxy_version
from mosn_xds.data.listener.sniff import (
    MAX_CLIENT_HELLO_BYTES,
    MAX_HTTP_PREFIX_BYTES,
    ClientHello,
    Sniff,
    sniff_http,
    sniff_tls,
)
from mosn_xds.data.listener.stats import InspectorStats
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.net.timers import Timer
from mosn_xds.data.observe.info import ConnectionInfo
from mosn_xds.data.proxy.rpc.detect import detect
from mosn_xds.spec.listener import Listener, ListenerFilter, ListenerFilterKind, PortPredicate, ProxyProtocolRules

_EVENTS = EPOLLIN | EPOLLRDHUP | EPOLLET
_HANG_UP = EPOLLRDHUP | EPOLLHUP | EPOLLERR
_HTTP_FOUND = {"http/1.0": "http10_found", "http/1.1": "http11_found", "h2c": "http2_found"}
_IMPLICIT_ORIGINAL_DST = ListenerFilter(ListenerFilterKind.ORIGINAL_DST, "envoy.filters.listener.original_dst")


class Inspected:
    """What the filters found. `restored`: the local address is the original destination now."""

    __slots__ = ("alpns", "restored", "sni", "transport")

    def __init__(self) -> None:
        self.restored = False
        self.sni = ""
        self.transport = "raw_buffer"
        self.alpns: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Inspected {self.transport} {self.sni or '-'} {','.join(self.alpns) or '-'}>"


class _Outcome(Enum):
    DONE = 0
    WAIT = 1
    REFUSE = 2


_DONE, _WAIT, _REFUSE = _Outcome.DONE, _Outcome.WAIT, _Outcome.REFUSE


class Inspection:
    """One connection under inspection; `done` is called once, maybe within `start`, with None if it must be closed.

    Then `timed_out` or `peer_closed` say why, or neither: a filter refused it, or it was cancelled. (`timed_out` is also
    set where the listener goes on after a time-out.) The socket stays open and belongs to the caller, unregistered.
    `info.remote` and `info.local` are changed by filters that know better. `protocols` are those that the listener's filters
    look for, for each filter.
    """

    __slots__ = (
        "_data", "_done", "_filters", "_info", "_listener", "_position", "_protocols", "_reactor", "_result", "_sock", "_stats",
        "_timer", "_waiting", "peer_closed", "timed_out",
    )  # fmt: skip

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        info: ConnectionInfo,
        listener: Listener,
        stats: InspectorStats,
        done: "Callable[[Inspection, Inspected | None], None]",
        protocols: Sequence[Sequence[RpcProtocol]] = (),
    ) -> None:
        self._reactor = reactor
        self._sock = sock
        self._info = info
        self._listener = listener
        self._stats = stats
        self._protocols = protocols
        self._done: Callable[[Inspection, Inspected | None], None] | None = done
        self._filters = listener.listener_filters
        if listener.use_original_dst:
            self._filters = (*self._filters, _IMPLICIT_ORIGINAL_DST)
        self._position = 0
        self._result = Inspected()
        self._data: bytes | None = None
        self._waiting = False
        self._timer: Timer | None = None
        self.timed_out = False
        self.peer_closed = False

    def start(self) -> None:
        self._advance(hung_up=False)

    def cancel(self) -> None:
        """The listener is going: the connection is to be closed."""
        self._finish(None)

    def on_ready(self, events: int) -> None:
        """For the reactor."""
        if self._done is not None:
            self._data = None
            self._advance(hung_up=bool(events & _HANG_UP))

    def on_failure(self, error: Exception) -> None:
        """For the reactor."""
        self._finish(None)

    def _advance(self, *, hung_up: bool) -> None:
        filters = self._filters
        while self._position < len(filters):
            current = filters[self._position]
            if current.disabled is None or not _holds(current.disabled, self._info.local.port):
                outcome = self._run(current)
                if outcome is _WAIT:
                    if hung_up:
                        self.peer_closed = True
                        self._finish(None)
                    else:
                        self._wait()
                    return
                if outcome is _REFUSE:
                    self._finish(None)
                    return
            self._position += 1
        self._finish(self._result)

    def _wait(self) -> None:
        if not self._waiting:
            self._waiting = True
            self._reactor.register(self._sock.fileno(), self, _EVENTS)
            timeout_s = self._listener.listener_filters_timeout_s
            if timeout_s is not None:
                self._timer = self._reactor.timers.arm(timeout_s, self._on_timeout)

    def _on_timeout(self) -> None:
        self._timer = None
        self.timed_out = True
        self._finish(self._result if self._listener.continue_on_listener_filters_timeout else None)

    def _finish(self, result: Inspected | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if self._waiting:
            self._reactor.unregister(self._sock.fileno())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        done(self, result)

    # The filters.

    def _run(self, current: ListenerFilter) -> _Outcome:
        kind = current.kind
        if kind is ListenerFilterKind.ORIGINAL_DST:
            self._restore_destination()
        elif kind is ListenerFilterKind.TLS_INSPECTOR:
            return self._inspect_tls()
        elif kind is ListenerFilterKind.HTTP_INSPECTOR:
            return self._inspect_http()
        elif kind is ListenerFilterKind.PROTOCOL_INSPECTOR:
            return self._inspect_protocols(self._protocols[self._position])
        elif kind is ListenerFilterKind.PROXY_PROTOCOL:
            return self._take_proxy_header(current.proxy_protocol)
        return _DONE

    def _restore_destination(self) -> None:
        found = original_destination(self._sock, self._info.local)
        if found is not None:
            self._info.local = self._info.restored_local = found
            self._result.restored = True

    def _inspect_tls(self) -> _Outcome:
        data = self._peek(MAX_CLIENT_HELLO_BYTES)
        if data is None:
            return _REFUSE if self.peer_closed else _WAIT
        found = sniff_tls(data)
        if found is Sniff.MORE and len(data) < MAX_CLIENT_HELLO_BYTES:
            return _WAIT
        stats = self._stats.tls
        if isinstance(found, ClientHello):
            result = self._result
            result.transport = "tls"
            result.sni, result.alpns = found
            stats.tls_found += 1
            if found.sni:
                stats.sni_found += 1
            else:
                stats.sni_not_found += 1
            if found.alpns:
                stats.alpn_found += 1
            else:
                stats.alpn_not_found += 1
        elif found is Sniff.MORE:
            stats.client_hello_too_large += 1
            return _REFUSE
        else:
            stats.tls_not_found += 1
        stats.bytes_processed.record(len(data))
        return _DONE

    def _inspect_http(self) -> _Outcome:
        if self._result.transport == "tls":
            return _DONE
        data = self._peek(MAX_HTTP_PREFIX_BYTES)
        if data is None:
            return _REFUSE if self.peer_closed else _WAIT
        found = sniff_http(data)
        if found is Sniff.MORE and len(data) < MAX_HTTP_PREFIX_BYTES:
            return _WAIT
        stats = self._stats.http
        if isinstance(found, Sniff):
            stats.http_not_found += 1
            return _DONE
        self._result.alpns = (found,)
        name = _HTTP_FOUND[found]
        setattr(stats, name, getattr(stats, name) + 1)
        return _DONE

    def _inspect_protocols(self, protocols: Sequence[RpcProtocol]) -> _Outcome:
        if self._result.transport == "tls" or self._result.alpns:
            return _DONE
        data = self._peek(MAX_HTTP_PREFIX_BYTES)
        if data is None:
            return _REFUSE if self.peer_closed else _WAIT
        found = detect(protocols, data)
        if found is RpcSniff.MORE:
            return _WAIT
        stats = self._stats.for_rpc()
        if isinstance(found, RpcProtocol):
            self._result.alpns = (found.name,)
            stats.count_found(found.name)
        else:
            stats.protocol_not_found += 1
        return _DONE

    def _take_proxy_header(self, rules: ProxyProtocolRules) -> _Outcome:
        data = self._peek(MAX_HEADER_BYTES)
        if data is None:
            return _REFUSE if self.peer_closed else _WAIT
        version = proxy_version(data)
        if version is None:
            return _WAIT
        if version == 0 and rules.optional:
            return _DONE
        if version in rules.disallowed_versions:
            return _REFUSE
        try:
            header = parse_proxy_header(data)
        except ValueError:
            return _REFUSE
        if header is None:
            return _WAIT
        self._sock.recv(header.size)
        self._data = None
        info = self._info
        if header.source is not None:
            info.remote = header.source
        if header.destination is not None and header.destination != info.local:
            info.local = info.restored_local = header.destination
            self._result.restored = True
        if header.tlvs:
            _keep_tlvs(info, rules, header.tlvs)
        return _DONE

    def _peek(self, limit_bytes: int) -> bytes | None:
        """The first bytes; None if there are none yet, or will be none (`peer_closed`)."""
        data = self._data
        if data is None:
            try:
                data = self._sock.recv(max(limit_bytes, MAX_HTTP_PREFIX_BYTES), socket.MSG_PEEK)
            except BlockingIOError:
                return None
            except OSError:
                data = b""
            if not data:
                self.peer_closed = True
                return None
            self._data = data
        return data[:limit_bytes]

    def __repr__(self) -> str:
        return f"<Inspection of {self._info!r} at filter {self._position}>"


def _keep_tlvs(info: ConnectionInfo, rules: ProxyProtocolRules, tlvs: tuple[tuple[int, bytes], ...]) -> None:
    info.proxy_tlvs = tuple([one for one in tlvs if rules.passes_all or one[0] in rules.passed_types])
    values = dict(tlvs)
    for kind, namespace, key in rules.rules:
        if kind in values:
            metadata = info.metadata = info.metadata or {}
            metadata.setdefault(namespace, {})[key] = values[kind].decode("utf-8", "replace")


def _holds(predicate: PortPredicate, port: int) -> bool:
    """envoy.config.listener.v3.ListenerFilterChainMatchPredicate, of the destination port."""
    if predicate.kind == "port":
        return predicate.start <= port < predicate.end
    if predicate.kind == "or":
        return any(_holds(child, port) for child in predicate.children)
    if predicate.kind == "and":
        return all(_holds(child, port) for child in predicate.children)
    if predicate.kind == "not":
        return not _holds(predicate.children[0], port)
    return True
