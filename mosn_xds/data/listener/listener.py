"""A listener at work: from an accepted descriptor to a filter chain that serves it.

accept -> listener filters look at the first bytes (`Inspection`) -> hand-off to the listener that the original destination
belongs to -> filter chain match -> network guards -> the chain's terminal filter. What is closed on the way is counted and
its reason is in the connection's details; a listener that Pilot sent but that cannot serve closes everything, because its
address must not fall to somebody else.
"""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from mosn_xds.base.errors import ConfigError, ResponseFlag
from mosn_xds.data.codec.rpc import RpcProtocol
from mosn_xds.data.listener.chain import Chain
from mosn_xds.data.listener.chain_match import ChainMatcher
from mosn_xds.data.listener.inspect import Inspected, Inspection
from mosn_xds.data.listener.stats import ListenerStats, WorkerListenerStats
from mosn_xds.data.listener.tls_entry import TlsEntry
from mosn_xds.data.net.consumer import Nobody
from mosn_xds.data.net.secure_wire import SecureWire
from mosn_xds.data.net.wire import Wire
from mosn_xds.data.observe.access_log import AccessLog
from mosn_xds.data.observe.info import ConnectionInfo, StreamInfo
from mosn_xds.data.proxy.context import WorkerContext
from mosn_xds.data.proxy.downstream import Downstream, Drain, Served
from mosn_xds.data.proxy.rpc.protocols import Protocols
from mosn_xds.spec import listener as spec
from mosn_xds.spec.common import Address

if TYPE_CHECKING:
    from mosn_xds.data.listener.manager import ListenerManager

_NR = int(ResponseFlag.NR)
_NOBODY = Nobody()


class Listener:
    """envoy.config.listener.v3.Listener at work. Its sockets belong to the `ListenerManager`, and so does its successor."""

    def __init__(
        self,
        listener: spec.Listener,
        context: WorkerContext,
        manager: "ListenerManager",
        previous: "Listener | None" = None,
    ) -> None:
        self.spec = listener
        self.name = listener.name
        self._context = context
        self._manager = manager
        address = listener.addresses[0] if listener.addresses else Address("")
        prefix = f"listener.{listener.stat_prefix or str(address).replace(':', '_')}."
        self._prefix = prefix
        self.stats = context.stats.group(ListenerStats, prefix)
        self.worker_stats = context.stats.group(WorkerListenerStats, f"{prefix}worker_{context.settings.worker}.")
        self._limit_cell = (
            context.limits.cell(f"listener|{listener.name}|connections")
            if listener.connection_limit is not None
            else None
        )
        self._inspections: set[Inspection] = set()
        self._protocols = [
            _protocols(one, place, context.protocols) for place, one in enumerate(listener.listener_filters)
        ]
        self._superseded = False
        self._on_inspected: Callable[[], None] | None = None
        self._own_chains = 0
        """Built here and not retired: a chain that survives an update still counts, and logs, with who built it."""
        kept = previous.chains if previous is not None and previous.spec.base_uid == listener.base_uid else {}
        self.chains: dict[bytes, Chain] = {}
        self._ordered: list[Chain] = [self._chain(chain, kept) for chain in listener.chains]
        self._default = self._chain(listener.default_chain, kept) if listener.default_chain is not None else None
        self._matcher = ChainMatcher([chain.match for chain in listener.chains])
        self._access_logs = tuple(
            AccessLog(log, context.environment, context.log_files) for log in listener.access_logs
        )

    def _chain(self, chain: spec.FilterChain, kept: dict[bytes, Chain]) -> Chain:
        built = kept.get(chain.uid) or self.chains.get(chain.uid)
        if built is None:
            modify_only = self.spec.drain_modify_only
            built = Chain(chain, self._context, self._prefix, self.spec.direction, self, drain_modify_only=modify_only)
            self._own_chains += 1
        self.chains[chain.uid] = built
        return built

    def __repr__(self) -> str:
        connections = sum(len(chain.connections) for chain in self.chains.values())
        return f"<Listener {self.name} {len(self.chains)} chains, {connections} connections>"

    # Accepting.

    def accept(self, sock: socket.socket, remote: Address, local: Address) -> None:
        """A connection has been accepted on one of this listener's sockets."""
        clock = self._context.reactor.clock
        info = ConnectionInfo(
            id=self._manager.next_connection_id(),
            remote=remote,
            local=local,
            start_s=clock.now,
            start_wall_s=clock.wall_now,
            listener_name=self.name,
        )
        self.take(sock, info, handed_over=False)

    def take(self, sock: socket.socket, info: ConnectionInfo, *, handed_over: bool) -> None:
        """Serve an accepted connection, maybe one that another listener hands over."""
        listener = self.spec
        info.listener_name = self.name
        if listener.closed_reason is not None:
            self.stats.downstream_cx_total += 1
            self.stats.downstream_cx_destroy += 1
            self.stats.closed_listener += 1
            self._refuse(sock, info, f"listener_not_serving{{{listener.closed_reason}}}")
            return
        limit = listener.connection_limit
        if limit is not None and self._limit_cell is not None:
            if self._limit_cell.in_use() >= limit:
                self.stats.downstream_cx_overflow += 1
                sock.close()
                return
            self._limit_cell.add(1)
        if not listener.listener_filters and not listener.use_original_dst:
            self._inspected(sock, info, Inspected(), handed_over=handed_over)
            return
        self.stats.downstream_pre_cx_active += 1
        inspection = Inspection(
            self._context.reactor,
            sock,
            info,
            listener,
            self._manager.inspectors,
            self._finish_inspection(sock, info, handed_over),
            self._protocols,
        )
        self._inspections.add(inspection)
        inspection.start()

    def _finish_inspection(
        self, sock: socket.socket, info: ConnectionInfo, handed_over: bool
    ) -> Callable[[Inspection, Inspected | None], None]:
        def done(inspection: Inspection, result: Inspected | None) -> None:
            self._inspections.discard(inspection)
            self.stats.downstream_pre_cx_active -= 1
            if result is None:
                if inspection.timed_out:
                    self.stats.downstream_pre_cx_timeout += 1
                elif inspection.peer_closed:
                    self.stats.downstream_listener_filter_remote_close += 1
                else:
                    self.stats.downstream_listener_filter_error += 1
                self._release()
                sock.close()
            elif (heir := self._manager.serving(self.name)) is not None and heir is not self:
                # Updated meanwhile: the connection belongs to who serves now, without being looked at again.
                self._release()
                heir.adopt(sock, info, result, handed_over=handed_over)
            else:
                self._inspected(sock, info, result, handed_over=handed_over)
            self._close_when_done()
            self._leave_when_inspected()

        return done

    def adopt(self, sock: socket.socket, info: ConnectionInfo, result: Inspected, *, handed_over: bool) -> None:
        """Serve a connection that this listener's predecessor has accepted and inspected."""
        if self.spec.closed_reason is not None:
            self.take(sock, info, handed_over=handed_over)
            return
        if self._limit_cell is not None:
            self._limit_cell.add(1)
        self._inspected(sock, info, result, handed_over=handed_over)

    def _inspected(self, sock: socket.socket, info: ConnectionInfo, result: Inspected, *, handed_over: bool) -> None:
        if self.spec.use_original_dst and result.restored and not handed_over:
            other = self._manager.find_by_destination(info.local, self)
            if other is not None:
                self._release()
                other.take(sock, info, handed_over=True)
                return
        stats = self.stats
        stats.downstream_cx_total += 1
        info.sni = result.sni
        position = self._matcher.find(
            destination=info.local,
            sni=result.sni,
            transport=result.transport,
            alpns=result.alpns,
            direct_source=info.direct_remote,
            source=info.remote,
        )
        chain = self._ordered[position] if position is not None else self._default
        if chain is None:
            stats.no_filter_chain_match += 1
            stats.downstream_cx_destroy += 1
            self._release()
            self._refuse_without_chain(sock, info)
            return
        info.chain_name = chain.name
        reason = self._refusal(chain, info)
        if reason is not None:
            stats.downstream_cx_destroy += 1
            self._release()
            # A chain that cannot serve is none, which Istio's listeners log; who is denied by one that can, is not.
            self._refuse(sock, info, reason, flags=_NR if chain.close_reason is not None else 0)
            return
        self._serve(sock, info, chain)

    def _refusal(self, chain: Chain, info: ConnectionInfo) -> str | None:
        """Why this chain does not take the connection; None if it does."""
        if chain.close_reason is not None:
            self.stats.closed_by_unknown_filter += 1
            return f"closed_by_chain{{{chain.close_reason}}}"
        for guard in chain.guards if chain.tls is None else ():  # else when the handshake is complete
            denied = guard.refuse(info)
            if denied is not None:
                return denied
        return None

    def _serve(self, sock: socket.socket, info: ConnectionInfo, chain: Chain) -> None:
        terminal = chain.terminal
        if terminal is None:
            # The chain was retired while this connection was being inspected; its successor, if any, takes the next.
            self._release()
            self._refuse_without_chain(sock, info)
            return
        context = self._context
        limit = self.spec.buffer_limit_bytes
        if chain.tls is None:
            wire = Wire(context.reactor, sock, _NOBODY, buffer_limit_bytes=limit, remote_address=info.direct_remote)
        else:
            try:
                entry = TlsEntry(chain, info, self.stats)
                secured = chain.tls.secure(sock, str(info.remote), entry)
                info.tls = secured.facts
            except OSError as error:
                self.stats.downstream_cx_destroy += 1
                self._release()
                self._refuse(sock, info, error.strerror or str(error))
                return
            wire = SecureWire(
                context.reactor, sock, _NOBODY, secured, buffer_limit_bytes=limit, remote_address=info.direct_remote
            )
            entry.wire = wire
        downstream = Downstream(wire, info, context.reactor, chain.drain, chain, self.spec.buffer_limit_bytes)
        served = terminal.serve(downstream)
        wire.consumer = served
        chain.connections.add(served)
        stats = self.stats
        stats.downstream_cx_active += 1
        self.worker_stats.downstream_cx_total += 1
        self.worker_stats.downstream_cx_active += 1
        wire.start(handshake_timeout_s=chain.spec.transport_connect_timeout_s)

    def connection_done(self, connection: Served) -> None:
        """One of this listener's connections is gone."""
        stats = self.stats
        stats.downstream_cx_active -= 1
        stats.downstream_cx_destroy += 1
        self.worker_stats.downstream_cx_active -= 1
        self._release()
        info: ConnectionInfo = connection.info
        length_ms = (self._context.reactor.clock.now - info.start_s) * 1000
        stats.downstream_cx_length_ms.record(length_ms)
        self._log(info, 0, info.close_reason)

    def _release(self) -> None:
        if self._limit_cell is not None:
            self._limit_cell.add(-1)

    def _refuse(self, sock: socket.socket, info: ConnectionInfo, details: str, *, flags: int = _NR) -> None:
        info.close_reason = details.replace(" ", "_")  # a blank ends a field of a log line
        sock.close()
        self._log(info, flags, info.close_reason)

    def _refuse_without_chain(self, sock: socket.socket, info: ConnectionInfo) -> None:
        """Envoy logs it as a detail of the response, not of the connection's end."""
        sock.close()
        self._log(info, _NR, "filter_chain_not_found")

    def _log(self, info: ConnectionInfo, flags: int, details: str) -> None:
        if not self._access_logs:
            return
        entry = StreamInfo(info)
        entry.start_s = info.start_s
        entry.start_wall_s = info.start_wall_s
        entry.duration_s = self._context.reactor.clock.now - info.start_s
        entry.flags = flags
        entry.details = details
        entry.metadata = info.metadata
        for log in self._access_logs:
            log.log(entry)

    # Draining.

    def drain_chains(self, kept: dict[bytes, Chain], drain: Drain) -> list[Chain]:
        """Drain every chain that `kept`, those that serve from now on, does not hold, and say which have connections left."""
        going = [chain for uid, chain in self.chains.items() if kept.get(uid) is not chain]
        for chain in going:
            chain.begin_drain(drain, kept.values())
        return [chain for chain in going if chain.connections]

    def leave(self, drain: Drain, on_inspected: Callable[[], None]) -> None:
        """Nobody takes this listener's place. Who is being inspected is served, and told to go like all others;
        `on_inspected` is called when there is nobody left of them."""
        for chain in self.chains.values():
            chain.drain.own = drain
        self._on_inspected = on_inspected
        self._leave_when_inspected()

    def _leave_when_inspected(self) -> None:
        if self._on_inspected is not None and not self._inspections:
            on_inspected, self._on_inspected = self._on_inspected, None
            on_inspected()

    @property
    def active(self) -> int:
        """Connections on which something is going on."""
        return sum(chain.active for chain in self.chains.values()) + len(self._inspections)

    def supersede(self) -> None:
        """Another Listener takes the place of this one, which goes when its last connection does."""
        self._superseded = True
        self._close_when_done()

    def chain_retired(self) -> None:
        """A chain that was built here has ended."""
        self._own_chains -= 1
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._superseded and not self._own_chains and not self._inspections:
            logs, self._access_logs = self._access_logs, ()
            for log in logs:
                log.close()

    def close(self) -> None:
        """Give up what is still being inspected."""
        for inspection in list(self._inspections):
            inspection.cancel()
        self.supersede()


def _protocols(listener_filter: spec.ListenerFilter, place: int, protocols: Protocols) -> tuple[RpcProtocol, ...]:
    """What the filter looks for. Raises ConfigError."""
    try:
        return protocols.build(listener_filter.protocols)
    except ConfigError as error:
        raise error.under(f"listener_filters[{place}]") from None
