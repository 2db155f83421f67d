"""The normal form of what a scenario saw: what must differ between two runs of even the same proxy is given a name.

Ports become the names that the bed gave them; dates, request ids (but for the digit that carries the trace decision) and
milliseconds become marks. Nothing else is touched: order of headers aside, everything is compared as it was.
"""

import re
from collections.abc import Mapping

from tests.support.client import Headers
from tests.support.upstream import SeenRequest

_UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$")
_DATE = re.compile(r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$")


class NormalForm:
    """Describes headers, bodies and requests as text that is equal wherever the proxies behave alike."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._ports = ports

    def __repr__(self) -> str:
        return f"<NormalForm of {len(self._ports)} ports>"

    def text(self, text: str) -> str:
        """The text with this world's ports replaced by their names."""
        return re.sub(r":(\d{4,5})\b", self._port_name, text)

    def _port_name(self, match: "re.Match[str]") -> str:
        number = int(match[1])
        return next((f":<{name}>" for name, port in self._ports.items() if port == number), match[0])

    def header(self, name: str, value: str) -> str:
        lower = name.lower()
        if lower == "date" and _DATE.match(value):
            value = "<date>"
        elif lower == "x-request-id" and (uuid := _UUID.match(value)):
            value = f"<uuid {uuid[1]}>"
        elif lower == "x-envoy-upstream-service-time" and value.isdigit():
            value = "<ms>"
        elif lower == "x-envoy-expected-rq-timeout-ms" and value.isdigit():
            # The time that has passed since the request came is taken off, back-offs included.
            value = "<ms>"
        return f"{name}: {self.text(value)}"

    def headers(self, pairs: Headers) -> str:
        return str(sorted(self.header(*pair) for pair in pairs))

    def body(self, body: bytes) -> str:
        text = self.text(body.decode("latin-1"))
        return repr(text) if len(text) <= 2000 else f"{len(text)} bytes, hash {hash(text)}"

    def request(self, request: SeenRequest) -> str:
        trailers = f" trailers {self.headers(request.trailers)}" if request.trailers else ""
        return (
            f"{request.method} {self.text(request.path)} {request.version} {self.headers(request.headers)}"
            f" body {self.body(request.body)} complete={request.complete}{trailers}"
        )
