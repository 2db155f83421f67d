"""dubbo_client.py HOST PORT: python3-dubbo calls; one connection, shared by its threads."""

import logging
import sys
from typing import Any

from commands import SERVICE, VERSION, serve
from dubbo.client import DubboClient


def main(host: str, port: int) -> None:
    logging.disable(logging.CRITICAL)
    clients: dict[tuple[str, str], Any] = {}

    def call(command: dict[str, Any], args: list[Any]) -> Any:
        key = (command.get("service", SERVICE), command.get("version", VERSION))
        if key not in clients:
            clients[key] = DubboClient(key[0], version=key[1], host=f"{host}:{port}")
        return clients[key].call(
            command["method"], args, context=command.get("properties"), timeout=command.get("timeout_ms", 10_000) / 1000
        )

    # Until it has a connection, the library's reader asks for one without a pause; so let it have one now.
    from dubbo.connection.connections import connection_pool

    connection_pool._get_connection(f"{host}:{port}")
    serve("python3-dubbo", call)


main(sys.argv[1], int(sys.argv[2]))
