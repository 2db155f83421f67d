"""One ADS stream kept alive: connect, converse, reconnect, for as long as the agent runs.

`AdsClient` joins the protocol machine to a transport and hands each response to its owner, who answers with a verdict.
Responses are handled one at a time, in order; while one is judged the next waits in the transport, and Pilot with it.
Losing the stream is routine (istiod ends it every half hour): nothing is forgotten, everything held keeps serving, and
the next stream says it all again. It knows nothing of what resources mean.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import trio

from mosn_xds.base.clock import Clock
from mosn_xds.control.ads.events import Event, Ignored, ProtocolError, Rejected, Response, Variant
from mosn_xds.control.ads.protocol import AdsProtocol, TypeState
from mosn_xds.control.ads.resource_types import AGGREGATED_DELTA_METHOD, AGGREGATED_SOTW_METHOD, ResourceType
from mosn_xds.control.ads.transport import StreamEnded, Transport
from mosn_xds.control.backoff import BackOff

HISTORY_LENGTH = 100
REPEATED_FAILURE_S = 30.0
"""A lost Pilot is normal for a while; after this long without a message it is worth a warning (Envoy's rule)."""

_log = logging.getLogger("mosn_xds.ads")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a response: `reason` is None for an ACK; `refused` are the names whose last good stays in use."""

    reason: str | None = None
    refused: frozenset[str] = frozenset()


ACK = Verdict()

Judge = Callable[[str, Response], Awaitable[Verdict]]
"""Given a source and a response, takes what is good of it. Subscriptions that follow are made before it returns."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of a client's history: how a response was answered. `at` is wall-clock seconds."""

    at: float
    type: ResourceType
    version: str
    resources: int
    removed: int
    reason: str | None


class AdsClient:
    """See the module.

    `source` names the configuration source (``ads``, a cluster's name) in logs and in the store. `state_changed` is told
    the source and True when a stream brings its first message, False when an attempt has ended, successful or not.
    """

    def __init__(
        self,
        source: str,
        protocol: AdsProtocol,
        transport: Transport,
        judge: Judge,
        *,
        clock: Clock,
        back_off: BackOff,
        method: str | None = None,
        state_changed: Callable[[str, bool], None] | None = None,
    ) -> None:
        self.source = source
        self._protocol = protocol
        self._transport = transport
        self._judge = judge
        self._clock = clock
        self._back_off = back_off
        self._method = method or (
            AGGREGATED_SOTW_METHOD if protocol.variant is Variant.SOTW else AGGREGATED_DELTA_METHOD
        )
        self._state_changed = state_changed
        self._send: Callable[[bytes], None] | None = None
        self._heard_at = clock.monotonic()
        self.connected = False
        """A message has come on the current stream: `control_plane.connected_state`."""
        self.streams = 0
        """Attempts so far."""
        self.last_error = ""
        """How the last stream ended; empty while one is connected."""
        self.defects = 0
        """Streams that ended in an exception that is a bug."""
        self.history: deque[Answer] = deque(maxlen=HISTORY_LENGTH)

    def __repr__(self) -> str:
        state = "connected" if self.connected else f"not connected: {self.last_error or 'not yet'}"
        return f"<AdsClient {self.source} {self._protocol.variant.value} {state}>"

    @property
    def types(self) -> Iterable[TypeState]:
        """The subscribed types, with last accepted version, nonce, and error of the last NACK."""
        return self._protocol.types

    # --- subscriptions; each leaves at once, or with the next stream ------------------------------------------------

    def subscribe(self, kind: ResourceType) -> None:
        """To all there is of a wildcard type."""
        self._protocol.subscribe(kind)
        self._flush()

    def change(self, kind: ResourceType, add: Iterable[str], remove: Iterable[str] = ()) -> None:
        """Ask for names of a named type, and for others no longer, in one request."""
        self._protocol.subscribe(kind, add)
        self._protocol.unsubscribe(kind, remove)
        self._flush()

    def ask_again(self, kind: ResourceType) -> None:
        """See `AdsProtocol.ask_again`."""
        self._protocol.ask_again(kind)
        self._flush()

    def _flush(self) -> None:
        if self._send is not None:
            for message in self._protocol.data_to_send():
                self._send(message)

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a stream until cancelled."""
        while True:
            try:
                await self._converse()
            except Exception as error:  # an agent's task: a bug of ours costs this stream, not the agent
                self.defects += 1
                self.last_error = f"internal error: {type(error).__name__}: {error}"
                _log.exception("%s: the stream's task failed", self.source)
            wait_s = self._back_off.next_s()
            level = logging.DEBUG
            if self._clock.monotonic() - self._heard_at > REPEATED_FAILURE_S:
                level = logging.WARNING
                self._heard_at = self._clock.monotonic()  # once per interval
            _log.log(level, "%s: stream closed: %s; next attempt in %.1f s", self.source, self.last_error, wait_s)
            await trio.sleep(wait_s)

    async def _converse(self) -> None:
        """One stream from its start to its end."""
        self.streams += 1
        try:
            async with self._transport.open(self._method) as stream:
                self._send = stream.send
                self._protocol.connected()
                self._flush()
                while True:
                    await self._answer(self._protocol.received(await stream.receive()))
        except (StreamEnded, ProtocolError) as error:
            self.last_error = str(error)
        finally:
            self._send = None
            self._protocol.disconnected()
            self.connected = False
            if self._state_changed is not None:
                self._state_changed(self.source, False)

    async def _answer(self, events: list[Event]) -> None:
        if not self.connected:
            self.connected = True
            self.last_error = ""
            if self._state_changed is not None:
                self._state_changed(self.source, True)
        self._back_off.reset()
        self._heard_at = self._clock.monotonic()
        for event in events:
            if isinstance(event, Ignored):
                _log.warning("%s: %s", self.source, event.reason)
            elif isinstance(event, Rejected):
                _log.warning("%s: %s %s rejected: %s", self.source, event.type.short, event.version, event.reason)
                self._note(event.type, event.version, 0, 0, event.reason)
            else:
                verdict = await self._judge(self.source, event)
                if verdict.reason is None:
                    self._protocol.accept(event)
                else:
                    _log.warning("%s: %s %s rejected: %s", self.source, event.type.short, event.version, verdict.reason)
                    self._protocol.reject(event, verdict.reason, verdict.refused)
                self._note(event.type, event.version, len(event.resources), len(event.removed), verdict.reason)
        self._flush()

    def _note(self, kind: ResourceType, version: str, resources: int, removed: int, reason: str | None) -> None:
        self.history.append(Answer(self._clock.wall(), kind, version, resources, removed, reason))
