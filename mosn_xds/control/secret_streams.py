"""Secrets from a gRPC service of their own: a stream for each name, as Envoy has it.

A server of secrets (pilot-agent, SPIRE) ends the stream on which it is asked for a name that it does not have. On a stream
of its own that costs nobody else: the workload's identity goes on being renewed whatever a wrong file name does.
"""

from collections.abc import Callable, Iterable

from mosn_xds.control.ads.client import AdsClient
from mosn_xds.control.ads.resource_types import ResourceType


class SecretStreams:
    """See the module; a `needs.Subscriber` of named types. `open_stream` starts a client, `close_stream` ends one."""

    def __init__(
        self,
        open_stream: Callable[[ResourceType], AdsClient],
        close_stream: Callable[[AdsClient], None],
    ) -> None:
        self._open_stream = open_stream
        self._close_stream = close_stream
        self._clients: dict[str, AdsClient] = {}

    def __repr__(self) -> str:
        return f"<SecretStreams {', '.join(self._clients) or 'none'}>"

    def subscribe(self, kind: ResourceType) -> None:
        """Secrets are always asked for by name."""

    def change(self, kind: ResourceType, add: Iterable[str], remove: Iterable[str]) -> None:
        for name in remove:
            client = self._clients.pop(name, None)
            if client is not None:
                self._close_stream(client)
        for name in add:
            if name not in self._clients:
                client = self._clients[name] = self._open_stream(kind)
                client.change(kind, (name,))

    def ask_again(self, kind: ResourceType) -> None:
        for client in self._clients.values():
            client.ask_again(kind)
