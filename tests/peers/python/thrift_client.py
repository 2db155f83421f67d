"""thrift_client.py binary|compact HOST PORT: thriftpy2 calls, framed; a connection per thread, which is Thrift's way.

Calls name their service (TMultiplexedProtocol), unless it is ""."""

import sys
import threading
from pathlib import Path
from typing import Any

import thriftpy2
from commands import SERVICE, serve
from thriftpy2.protocol import (
    TBinaryProtocolFactory,
    TCompactProtocolFactory,
    TMultiplexedProtocolFactory,
)
from thriftpy2.rpc import make_client
from thriftpy2.transport import TFramedTransportFactory


def main(protocol: str, host: str, port: int) -> None:
    idl: Any = thriftpy2.load(str(Path(__file__).with_name("echo.thrift")), module_name="echo_thrift")
    factories = {"binary": TBinaryProtocolFactory, "compact": TCompactProtocolFactory}
    local = threading.local()

    def connect(service: str, timeout_ms: int) -> Any:
        clients = local.__dict__.setdefault("clients", {})
        if (service, timeout_ms) not in clients:
            factory = factories[protocol]()
            if service:
                factory = TMultiplexedProtocolFactory(factory, service)
            clients[service, timeout_ms] = make_client(
                idl.Echo,
                host,
                port,
                proto_factory=factory,
                trans_factory=TFramedTransportFactory(),
                timeout=timeout_ms,
            )
        return clients[service, timeout_ms]

    def call(command: dict[str, Any], args: list[Any]) -> Any:
        service, timeout_ms = command.get("service", SERVICE), command.get("timeout_ms", 10_000)
        client = connect(service, timeout_ms)
        try:
            return getattr(client, command["method"])(*args)
        except idl.Failure:
            raise
        except Exception:
            # Whatever else was raised may have left half an answer behind.
            client.close()
            del local.clients[service, timeout_ms]
            raise

    serve(f"thriftpy2 {protocol}", call)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
