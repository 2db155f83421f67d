"""The demo's clients: keep-alive connections in threads that ask all the time and note who answered what."""

import http.client
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class Tally:
    """What came back: answers by (status, service), failures with their reasons."""

    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return sum(self.answers.values()) + sum(self.failures.values())

    def share(self, service: str) -> float:
        """Of the 200s."""
        good = sum(n for (status, _), n in self.answers.items() if status == 200)
        return sum(n for (_, name), n in self.answers.items() if name == service) / good if good else 0.0


def ask(connection: http.client.HTTPConnection, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """One request; returns the status and which service answered (empty for the proxy itself)."""
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    body = response.read()
    try:
        service = str(json.loads(body)["service"])
    except (ValueError, KeyError, TypeError):
        service = ""
    return response.status, service


def burst(port: int, path: str, count: int, headers: dict[str, str] | None = None) -> Tally:
    """`count` requests on one connection."""
    tally = Tally()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    for _ in range(count):
        try:
            tally.answers[ask(connection, path, headers)] += 1
        except (OSError, http.client.HTTPException) as error:
            tally.failures[type(error).__name__] += 1
            connection.close()
    connection.close()
    return tally


def tick(port: int, word: str) -> str:
    """One line to the TCP service and back."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(word.encode() + b"\n")
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile() as lines:
            return lines.readline().strip()


class Asker(Protocol):
    """A client's connection. After an error, asking again connects again."""

    def ask(self) -> tuple[int, str]:
        """One request: status, and who answered. Raises OSError, HTTPException."""
        ...

    def close(self) -> None: ...


class HttpAsker:
    """Asks for one path."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        self._path = path

    def ask(self) -> tuple[int, str]:
        return ask(self._connection, self._path)

    def close(self) -> None:
        self._connection.close()


class Load:
    """Clients that do not stop until told; `take` gives what was counted since the last call."""

    def __init__(self, connect: Callable[[], Asker], clients: int) -> None:
        self._connect = connect
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._tally = Tally()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def take(self) -> Tally:
        with self._lock:
            tally, self._tally = self._tally, Tally()
        return tally

    def stop(self) -> Tally:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.take()

    def _run(self) -> None:
        asker = self._connect()
        while not self._stop.is_set():
            try:
                answer = asker.ask()
            except (OSError, http.client.HTTPException) as error:
                asker.close()
                with self._lock:
                    self._tally.failures[type(error).__name__] += 1
            else:
                with self._lock:
                    self._tally.answers[answer] += 1
        asker.close()
