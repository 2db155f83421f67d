"""Try an RPC protocol without a socket, a clock or a proxy: the same harness for ours and for anybody's.

Rows are frames with what they mean. `check_protocol` parses each as it is and in every way in which the network may bring it,
changes it in every way in which the engine may, damages it, and asks the protocol for all that it says itself::

    check_protocol(
        Greeter(Greeter.Options()),
        client=[
            Row("a call", b"...", id=7, service=b"greeter", method=b"hello", properties=[(b"who", b"you")]),
            Row("a call to nobody", b"...", bad="no_service"),
        ],
        server=[Row("an answer", b"...", id=7, status=200)],
    )

What is wrong is an AssertionError that names the row, the check, and the difference. `check_bytes` holds whatever the bytes
are: the body of a fuzz target, or of a property-based test.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from random import Random
from typing import TypeVar

from mosn_xds.data.codec.head import Fields
from mosn_xds.data.codec.rpc.framer import Framer
from mosn_xds.data.codec.rpc.messages import BadFrame, Kind, RpcMessage, RpcRequest, RpcResponse
from mosn_xds.data.codec.rpc.protocol import MORE, RpcProtocol, Sniff

_T = TypeVar("_T")
Parse = Callable[[bytes], RpcMessage]


class Row:
    """A frame, and what it means.

    `kind` is a request on the client's side, a response on the server's, unless it says otherwise. `facts` are attributes of
    the message: ``id``; of requests ``service``, ``method``, ``path``, ``timeout_s``; of responses ``status``, ``code``; of both
    ``properties``, pairs in order. What is not said is not looked at. `get` holds answers of the message's `get`, None for
    what is not there. `bad` is the reason of the BadFrame that the frame is.
    """

    def __init__(
        self, name: str, frame: bytes, *, kind: Kind | None = None, get: Mapping[bytes, bytes | None] | None = None,
        bad: str | None = None, **facts: object,
    ) -> None:  # fmt: skip
        unknown = sorted(facts.keys() - _FACTS.keys())
        if unknown:
            raise TypeError(f"row {name!r}: {', '.join(unknown)}: the facts are {', '.join(sorted(_FACTS))}")
        self.name = name
        self.frame = frame
        self.kind = kind
        self.get = get or {}
        self.bad = bad
        self.facts = facts

    def __repr__(self) -> str:
        return f"<Row {self.name!r}, {len(self.frame)} bytes>"


def check_protocol(
    protocol: RpcProtocol,
    *,
    client: Sequence[Row] = (),
    server: Sequence[Row] = (),
    replies: Mapping[int, int] | None = None,
    chance: Random | None = None,
) -> None:
    """Raises AssertionError where `protocol` does not read as `client`, what clients send, and `server`, what servers send,
    say, or breaks a rule that all protocols keep.

    `replies`: for statuses with which the proxy answers, the status as which `from_server` reads such an answer; by default
    any error will do. `chance` draws cuts; by default the same at each run, so that what fails fails again.
    """
    chance = chance or Random(0)
    requests: list[RpcRequest] = []
    for rows, kind in ((client, Kind.REQUEST), (server, Kind.RESPONSE)):
        parse = protocol.from_client if kind is Kind.REQUEST else protocol.from_server
        for row in rows:
            trial = _Trial(protocol, row.name, parse, chance)
            if row.bad is not None:
                trial.bad_frame(row.frame, row.bad)
                continue
            trial.framing(row.frame)
            message = trial.meaning(row, kind)
            trial.changes(message)
            if kind is Kind.REQUEST and isinstance(message, RpcRequest):
                trial.sniff(row.frame)
                trial.answers(message, replies or {})
                if message.kind is Kind.REQUEST:
                    requests.append(message)
            elif message.kind is Kind.RESPONSE and requests:
                trial.passed_on(message, chance.choice(requests))
            trial.damage(row.frame)
        _Trial(protocol, "all rows", parse, chance).stream([row.frame for row in rows if row.bad is None])
    _Trial(protocol, "the proxy's own frames", protocol.from_client, chance).own_frames()


def check_bytes(protocol: RpcProtocol, data: bytes) -> None:
    """Raises AssertionError unless `data`, from a client or a server, is messages or BadFrame, and all that the engine may do
    with those messages gives messages again."""
    for parse in (protocol.from_client, protocol.from_server):
        trial = _Trial(protocol, f"bytes {data[:64].hex()}{'...' if len(data) > 64 else ''}", parse, Random(0))
        trial.attempt("sniff", lambda: protocol.sniff(data[: protocol.head_bytes]))
        trial.attempt("no frame", lambda: parse(data))  # noqa: B023 - called at once
        frames, bad = trial.receive("in one piece", [data])
        by_bytes, bad_by_bytes = trial.receive("byte by byte", _byte_by_byte(data))
        if (by_bytes, bool(bad_by_bytes)) != (frames, bool(bad)):
            raise AssertionError(f"{trial!r}: byte by byte, {by_bytes} {bad_by_bytes}; in one piece, {frames} {bad}")
        for frame in frames:
            message = trial.attempt("parse", lambda: parse(frame))  # noqa: B023 - called at once
            if isinstance(message, RpcRequest | RpcResponse):
                trial.changes(message)
                if isinstance(message, RpcRequest) and parse == protocol.from_client:
                    trial.answers(message, {})


class _Trial:
    """The checks of one row. Each names itself where it fails."""

    def __init__(self, protocol: RpcProtocol, name: str, parse: Parse, chance: Random) -> None:
        self._protocol = protocol
        self._name = name
        self._parse = parse
        self._chance = chance

    def __repr__(self) -> str:
        return f"{self._protocol.name}, {self._name}"

    # What the network may do.

    def framing(self, frame: bytes) -> None:
        """The frame's length is known from its head alone, wherever it stands, and never guessed from less."""
        protocol, size = self._protocol, len(frame)
        for check, data, at in (
            ("length of the whole frame", frame, 0),
            ("length, other bytes before it", b"\xff" * 3 + frame, 3),
            ("length, other bytes behind it", frame + b"\xff" * 3, 0),
            ("length by `head_bytes` bytes", frame[: protocol.head_bytes], 0),
        ):
            self._equal(check, self._length(check, data, at), size)
        for cut in self._cuts(size):
            check = f"length by {cut} bytes"
            known = self._length(check, frame[:cut], 0)
            if known not in (MORE, size):
                raise self._failure(check, known, f"MORE or {size}")
            self._equal(f"only {cut} bytes", self.receive("truncated", [frame[:cut]]), ([], ""))
        self._equal("byte by byte", self.receive("byte by byte", _byte_by_byte(frame)), ([frame], ""))
        self._equal("largest frame allowed", self.receive("size", [frame], limit_bytes=size), ([frame], ""))
        too_large = self.receive("size", [frame], limit_bytes=size - 1)
        self._equal("frame above max_frame_bytes", too_large, ([], "frame_too_large"))

    def stream(self, frames: list[bytes]) -> None:
        """Frames behind each other, in whatever pieces they come."""
        whole = b"".join(frames)
        self._equal("in one piece", self.receive("in one piece", [whole]), (frames, ""))
        for _ in range(20):
            cuts = sorted(self._chance.randrange(len(whole) + 1) for _ in range(self._chance.randrange(1, 12)))
            self._equal(f"cut at {cuts}", self.receive(f"cut at {cuts}", _pieces(whole, cuts)), (frames, ""))

    def damage(self, frame: bytes) -> None:
        """Garbage behind a frame does not harm it, garbage inside of it is a message or BadFrame."""
        for garbage in (b"\0" * 80, b"\xff" * 80, b"GET / HTTP/1.1\r\n\r\n", self._chance.randbytes(80)):
            found = self.receive("garbage behind", [frame + garbage])[0]
            self._equal(f"{garbage[:8]!r} behind it", found[:1], [frame])
        for cut in self._cuts(len(frame)):
            self.attempt(f"parsed when only {cut} bytes long", lambda: self._parse(frame[:cut]))  # noqa: B023
        for _ in range(40 if len(frame) < 4096 else 8):
            at = self._chance.randrange(min(len(frame), 96))
            value = self._chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF, self._chance.randrange(256)))
            check_bytes(self._protocol, frame[:at] + bytes((value,)) + frame[at + 1 :])

    def bad_frame(self, frame: bytes, reason: str) -> None:
        """BadFrame, in one piece and byte by byte."""
        for check, pieces in (("in one piece", [frame]), ("byte by byte", _byte_by_byte(frame))):
            frames, bad = self.receive(check, pieces)
            if not bad and frames:
                try:
                    raise self._failure(check, self._parse(frames[0]), f"BadFrame {reason}")
                except BadFrame as error:
                    bad = str(error)
            self._equal(f"{check}, reason", bad, reason)

    def sniff(self, frame: bytes) -> None:
        """A connection that begins with this frame is the protocol's, and never was not."""
        protocol = self._protocol
        if type(protocol).sniff is RpcProtocol.sniff:
            return
        self._equal("sniff", protocol.sniff(frame[: protocol.head_bytes]), Sniff.YES)
        known = Sniff.MORE
        for cut in range(min(len(frame), protocol.head_bytes) + 1):
            verdict = protocol.sniff(frame[:cut])
            if verdict is Sniff.NO or (verdict is Sniff.MORE and known is Sniff.YES):
                raise self._failure(f"sniff by {cut} bytes", verdict, f"{known} or YES")
            known = verdict

    # What a frame means.

    def meaning(self, row: Row, default: Kind) -> RpcMessage:
        """The message is what the row says, and remembers where it came from."""
        message = self._message("parse", row.frame)
        self._equal("kind", message.kind, default if row.kind is None else row.kind)
        for fact, expected in row.facts.items():
            self._equal(fact, getattr(message, _FACTS[fact], "no such fact of a response or request"), expected)
        for name, answer in row.get.items():
            self._equal(f"get({name!r})", message.get(name), answer)
        self._equal("version", message.version, self._protocol.version)
        self._equal("frame", message.frame, row.frame)
        self._equal("edited, though nobody has", message.edited, False)
        if isinstance(message, RpcRequest):
            self._equal("copy", message.copy(), message)
        return message

    # What the engine may do with it.

    def changes(self, message: RpcMessage) -> None:
        """Another id, other properties, another time-out: nothing else changes."""
        protocol = self._protocol
        if type(protocol).with_id is not RpcProtocol.with_id:
            for id in (1, 0x01020304, 0x7FFFFFFF):
                frame = self._made(f"with_id({id})", lambda: protocol.with_id(message.frame, id))  # noqa: B023
                changed = self._same_but(f"with_id({id})", frame, message, "id", "frame")
                self._equal(f"with_id({id})", changed.id, id)
                back = self._made(f"with_id({id}) and back", lambda: protocol.with_id(frame, message.id))  # noqa: B023
                self._equal(f"with_id({id}) and back", back, message.frame)
        if isinstance(message, RpcRequest) and type(protocol).with_timeout is not RpcProtocol.with_timeout:
            self._timeouts(message)
        if protocol.edits and message.kind in (Kind.REQUEST, Kind.ONEWAY, Kind.RESPONSE):
            check = "edited without a change"
            self._equal(check, self._made(check, lambda: self._edit(message, message.fields)), message.frame)
            fields = message.fields
            self._edits("a property more", message, [*fields, (b"x-harness", b"1")])
            if fields:
                self._edits("a property less", message, fields[1:])
                self._edits("another value", message, [(fields[0][0], b"x" * 300), *fields[1:]])
                self._edits("no property", message, [])

    def _timeouts(self, message: RpcRequest) -> None:
        for timeout_s in (0.001, 0.25, 86400.0):
            check = f"with_timeout({timeout_s})"
            frame = self._made(check, lambda: self._protocol.with_timeout(message.frame, timeout_s))  # noqa: B023
            changed = self._same_but(check, frame, message, "timeout_s", "frame")
            before = message.timeout_s
            if before is not None or frame != message.frame:
                expected = timeout_s if before is None else min(before, timeout_s)
                self._equal(check, getattr(changed, "timeout_s", None), expected)

    def _edits(self, check: str, message: RpcMessage, fields: Fields) -> None:
        frame = self.attempt(check, lambda: self._edit(message, fields))
        if not isinstance(frame, bytes):
            return  # too much for a frame, or not possible in this one
        changed = self._same_but(
            check, self._made(check, lambda: frame), message, "fields", "original", "frame", *_FROM_FIELDS
        )
        self._equal(check, changed.fields, fields)
        back = self._made(f"{check}, and back", lambda: self._edit(changed, message.fields))
        self._same_but(f"{check}, and back", back, message, "frame")

    def _edit(self, message: RpcMessage, fields: Fields) -> bytes:
        edited = copy(message)
        edited.fields = list(fields)
        if isinstance(edited, RpcRequest):
            return self._protocol.edit_request(edited)
        return self._protocol.edit_response(edited)

    def passed_on(self, response: RpcMessage, request: RpcRequest) -> None:
        """To the client, a server's response is one to its request."""
        frame = self._made("answer", lambda: self._protocol.answer(response.frame, request))
        changed = self._same_but("answer", frame, response, "id", "frame")
        self._equal("answer: id", changed.id, request.id)

    def answers(self, message: RpcRequest, replies: Mapping[int, int]) -> None:
        """What the proxy says to a request of this kind is understood by whoever reads what servers say."""
        own = _Trial(self._protocol, self._name, self._protocol.from_server, self._chance)
        if message.kind is Kind.HEARTBEAT:
            frame = self._made("heartbeat_reply", lambda: self._protocol.heartbeat_reply(message), or_none=True)
            if frame:
                answer = own._message("heartbeat_reply", frame)
                self._equal("heartbeat_reply", (answer.kind, answer.id), (Kind.HEARTBEAT_REPLY, message.id))
        elif message.kind is Kind.REQUEST:
            for status in sorted({400, 403, 404, 429, 500, 502, 503, 504} | replies.keys()):
                check = f"reply({status})"
                frame = self._made(check, lambda: self._protocol.reply(message, status, "why: ü\n"))  # noqa: B023
                answer = own._message(check, frame)
                self._equal(check, (answer.kind, answer.id), (Kind.RESPONSE, message.id))
                read = getattr(answer, "status", 0)
                if read != replies.get(status, read) or (status >= 400 and read < 400):
                    raise self._failure(f"{check} is read as", read, str(replies.get(status, "an error")))

    def own_frames(self) -> None:
        """A heartbeat can be answered, a GOAWAY is taken for one."""
        protocol = self._protocol
        beat = self._made("heartbeat", lambda: protocol.heartbeat(5), or_none=True)
        if beat:
            self.framing(beat)
            message = self._message("heartbeat", beat)
            self._equal("heartbeat", (message.kind, message.id), (Kind.HEARTBEAT, 5))
            if isinstance(message, RpcRequest):
                self.answers(message, {})
        goaway = self._made("goaway", protocol.goaway, or_none=True)
        if goaway:
            self.framing(goaway)
            kind = self._run("goaway", lambda: protocol.from_server(goaway).kind)
            self._equal("goaway", kind, Kind.GOAWAY)

    # Tools.

    def attempt(self, check: str, step: Callable[[], object]) -> object:
        """What `step` gives, None if that is BadFrame. Anything else that it raises is a failure."""
        try:
            return step()
        except BadFrame:
            return None
        except Exception as error:
            raise self._failure(check, f"{type(error).__name__}: {error}", "nothing but BadFrame raised") from error

    def receive(
        self, check: str, pieces: Sequence[bytes], limit_bytes: int | None = None
    ) -> tuple[list[bytes], str]:  # fmt: skip
        """The frames that are in these pieces, and what ended them."""
        protocol = self._protocol
        if limit_bytes is not None:
            protocol = copy(protocol)
            protocol.max_frame_bytes = limit_bytes
        framer = Framer(protocol)
        frames: list[bytes] = []

        def feed() -> None:
            for piece in pieces:
                frames.extend(framer.receive(piece))

        self._run(check, feed)
        return frames, framer.bad

    def _run(self, check: str, step: Callable[[], _T]) -> _T:
        """What `step` gives; whatever it raises is a failure."""
        try:
            return step()
        except Exception as error:
            raise self._failure(check, f"{type(error).__name__}: {error}", "no exception") from error

    def _length(self, check: str, data: bytes, at: int) -> int:
        return self._run(check, lambda: self._protocol.frame_bytes(data, at))

    def _message(self, check: str, frame: bytes) -> RpcMessage:
        return self._run(check, lambda: self._parse(frame))

    def _made(self, check: str, step: Callable[[], bytes], *, or_none: bool = False) -> bytes:
        """A frame that the protocol makes: one, and no more."""
        frame = self._run(check, step)
        if frame or not or_none:
            self._equal(f"{check}: its length", self._length(f"{check}: its length", frame, 0), len(frame))
        return frame

    def _same_but(self, check: str, frame: bytes, message: RpcMessage, *but: str) -> RpcMessage:
        changed = self._message(check, frame)
        for name in message.__struct_fields__:
            if name not in but:
                self._equal(f"{check}: {name}", getattr(changed, name), getattr(message, name))
        return changed

    def _cuts(self, size: int) -> Iterator[int]:
        """Lengths that are too short; not all of a large frame."""
        if size <= 512:
            yield from range(size)
            return
        yield from range(64)
        for _ in range(16):
            yield self._chance.randrange(64, size)
        yield size - 1

    def _equal(self, check: str, found: object, expected: object) -> None:
        if found != expected:
            raise self._failure(check, found, repr(expected))

    def _failure(self, check: str, found: object, expected: str) -> AssertionError:
        text = found if isinstance(found, str) else repr(found)
        return AssertionError(f"{self!r}: {check}: {_shortened(text)}, expected {_shortened(expected)}")


def _pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    ends = [*cuts, len(data)]
    return [data[begin:end] for begin, end in zip([0, *cuts], ends, strict=True) if begin < end]


def _byte_by_byte(data: bytes) -> list[bytes]:
    """The beginning byte by byte, if there is much behind it: it holds whatever lengths are."""
    return _pieces(data, range(1, min(len(data), 4096)))


def _shortened(text: str) -> str:
    return text if len(text) <= 600 else f"{text[:300]} ... {text[-300:]}"


_FACTS = {name: name for name in ("id", "service", "method", "path", "timeout_s", "status", "code")}
_FACTS["properties"] = "fields"
_FROM_FIELDS = ("authority", "method", "path")
"""What a protocol may read from properties, and what so changes with them."""
