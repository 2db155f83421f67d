"""CPU of the HTTP/1 codecs alone, beside llhttp with empty callbacks: ``python -m bench.codec_http1``."""

import timeit
from collections.abc import Callable

import httptools

from mosn_xds.data.codec.events import ResponseStarted
from mosn_xds.data.codec.http1 import Http1ClientCodec, Http1Options, Http1ServerCodec

REQUEST = (
    b"GET /index.html?x=1 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip\r\nX-Request-Id: 2c7b9e2a-0f6e-4c8e-9a37-d1f3b4f2c1aa\r\nX-Forwarded-Proto: http\r\n"
    b"Cookie: a=b; c=d\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 04:47:29 GMT\r\nContent-Type: text/html\r\n"
    b'Content-Length: 5\r\nETag: "5f3e"\r\n\r\nhello'
)


class Nothing:
    """Callbacks that do nothing: what llhttp and the way into Python cost."""

    def on_url(self, url: bytes) -> None: ...

    def on_header(self, name: bytes, value: bytes) -> None: ...

    def on_headers_complete(self) -> None: ...

    def on_body(self, data: bytes) -> None: ...

    def on_message_complete(self) -> None: ...


def microseconds(run: Callable[[], object], number: int = 50_000) -> float:
    return min(timeit.repeat(run, number=number, repeat=7)) / number * 1e6


def main() -> None:
    request_parser = httptools.HttpRequestParser(Nothing())
    response_parser = httptools.HttpResponseParser(Nothing())
    server = Http1ServerCodec(Http1Options())
    client = Http1ClientCodec(Http1Options())
    stream_id = 0

    def send_request() -> None:
        client.send_head(1, request, True)

    def upstream() -> None:
        client.send_head(1, request, True)
        client.receive(RESPONSE)

    def send_response() -> None:
        server.send_head(stream_id, response, False)
        server.send_data(stream_id, b"hello", True)

    def downstream() -> None:
        server.receive(REQUEST)
        send_response()
        server.next_exchange()

    (started,) = server.receive(REQUEST)
    request = started.head  # type: ignore[union-attr]
    client.send_head(1, request, True)
    answered = client.receive(RESPONSE)[0]
    if not isinstance(answered, ResponseStarted):
        raise SystemExit(f"the response was not understood: {answered}")
    response = answered.head
    send_response()
    server.next_exchange()
    rows = {
        "llhttp alone, request of 7 fields": microseconds(lambda: request_parser.feed_data(REQUEST)),
        "server: receive, answer, next": microseconds(downstream),
        "server: answer": microseconds(send_response),
        "llhttp alone, response of 5 fields": microseconds(lambda: response_parser.feed_data(RESPONSE)),
        "client: send_head, receive": microseconds(upstream),
        "client: send_head": microseconds(lambda: (send_request(), client._asked.clear())),
    }
    for name, cost in rows.items():
        print(f"{name:40} {cost:6.2f} us")


if __name__ == "__main__":
    main()
