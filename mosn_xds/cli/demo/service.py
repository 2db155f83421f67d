"""One upstream of the demo, run as a process of its own: says who it is over HTTP, or ticks over TCP.

``python -m mosn_xds.cli.demo.service NAME PORT http|tcp``
"""

import json
import socketserver
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together: apart, Nagle and delayed acknowledgements would cost 40 ms a request.
    wbufsize = 65536
    disable_nagle_algorithm = True
    name = ""

    def do_GET(self) -> None:
        seen = {"service": self.name, "path": self.path, "client": self.headers.get("x-forwarded-client-cert")}
        body = json.dumps(seen).encode() + b"\n"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The demo prints what happened; its upstreams do not."""


class _Ticker(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(b"tick " + line)


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def main() -> None:
    """Serve until killed."""
    name, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if kind == "tcp":
        _TcpServer(("127.0.0.1", port), _Ticker).serve_forever()
    else:
        handler = type("Shop", (_Shop,), {"name": name})
        ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()


if __name__ == "__main__":
    main()
