"""anthunder_client.py HOST PORT: anthunder calls over Bolt v1. Calls share one connection; those with "sync", and one-way
ones, go by its other client, which has a connection per call at a time and shows the status of an error."""

import logging
import sys
from typing import Any

from anthunder import SERVICE_MAP
from anthunder.client import AioClient, Client
from commands import SERVICE, VERSION, serve
from mytracer import SpanContext


def main(host: str, port: int) -> None:
    logging.disable(logging.ERROR)
    aio = AioClient("peers")
    blocking = Client("peers")

    def call(command: dict[str, Any], args: list[Any]) -> str | None:
        service = f"{command.get('service', SERVICE)}:{command.get('version', VERSION)}"
        if service not in SERVICE_MAP:
            SERVICE_MAP[service] = (host, port)
        content = (str(args[0]) if args else "").encode()
        context = SpanContext()
        headers = command.get("properties", {})
        if command.get("oneway"):
            blocking.invoke_oneway(service, command["method"], content, spanctx=context, **headers)
            return None
        client = blocking if command.get("sync") else aio
        timeout_ms = command.get("timeout_ms", 10_000)
        answer = client.invoke_sync(
            service, command["method"], content, spanctx=context, timeout_ms=timeout_ms, **headers
        )
        return bytes(answer).decode()

    serve("anthunder", call)


main(sys.argv[1], int(sys.argv[2]))
