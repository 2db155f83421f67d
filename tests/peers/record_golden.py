"""Records what real peers say to each other: python -m tests.peers.record_golden (needs Node, and Java's peers built).

Writes tests/data/codec/rpc/golden/{bolt,dubbo,thrift}.json. What a frame holds is read here by length fields and by
hessian.js, not by the codecs that the frames are for. Ids, ports and time stamps are those of the recording, so another
recording differs in them.
"""

import json
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.rpc_peers import NODE, Calling, PeerClient, PeerServer, Serving
from tests.support.rpc_relay import Relay, bolt_frames, dubbo_frames, framed_thrift

GOLDEN = Path(__file__).parents[1] / "data/codec/rpc/golden"
QUICK_HEARTBEATS = ("-Dbolt.tcp.heartbeat.interval=100", "-Dbolt.tcp.heartbeat.maxtimes=50")
SHORT_STACKS = ("--stack-trace-limit=0",)
Split = Callable[[bytes], list[bytes]]
Step = tuple[str, dict[str, Any]]
PROPERTIES = {"zone": "eu-1", "x-tester": "yes"}
CALLS: tuple[Step, ...] = (
    ("a call", {"method": "echo", "args": ["hello"]}),
    ("an application's exception", {"method": "fail", "args": ["sorry"]}),
    ("an unknown service", {"method": "who", "service": "no.Such"}),
)
NULL: Step = ("a call that returns null", {"method": "nothing"})
CRASH: Step = ("a method that raises", {"method": "crash", "args": ["boom"]})
ONEWAY: Step = ("a one-way call", {"method": "note", "oneway": True})
HEARTBEAT: Step = ("a heartbeat", {"method": "heartbeat", "heartbeat": True})
WITH_PROPERTIES: Step = ("a call with properties", {"method": "echo", "args": ["hello"], "properties": PROPERTIES})


class Recorder:
    """Collects frames with what they are about."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frames: list[dict[str, Any]] = []

    @staticmethod
    def is_heartbeat(frame: bytes) -> bool:
        """Bolt's heartbeats have command 0; Dubbo's are events that hold null."""
        if frame[0] == 0xDA:
            return bool(frame[2] & 0x20) and frame[16:] == b"N"
        at = 3 if frame[0] == 2 else 2
        return frame[0] in (1, 2) and frame[at : at + 2] == b"\0\0"

    def pair(
        self,
        serving: Serving,
        calling: Calling,
        split: Split,
        steps: tuple[Step, ...],
        *,
        client_options: tuple[str, ...] = (),
        wait_s: float = 0.0,
        terminate: bool = False,
    ) -> None:
        """What a client and a server say in these steps; then for a time without calls, and when the server ends."""
        with ExitStack() as stack:
            short = SHORT_STACKS if serving.name.endswith("NODE") else ()
            server = stack.enter_context(PeerServer(serving, "one", self.folder, options=short))
            relay = Relay(server.port)
            stack.callback(relay.close)
            client = stack.enter_context(PeerClient(calling, relay.port, self.folder, options=client_options))
            taken: dict[tuple[int, str], int] = {}
            beats = {"client": 1, "server": 1}

            def note(about: str) -> None:
                time.sleep(0.15)  # what is not answered arrives at some time
                for number, heard in enumerate(relay.heard):
                    for side, data in (("client", heard.from_client), ("server", heard.from_server)):
                        frames = split(bytes(data))
                        done = taken.get((number, side), 0)
                        for frame in frames[done:]:
                            alive = self.is_heartbeat(frame)
                            if alive and beats[side] == 0:
                                continue
                            beats[side] -= alive
                            self.frames.append(
                                {
                                    "about": "a heartbeat" if alive else about,
                                    "from": side,
                                    "client": calling.name,
                                    "server": serving.name,
                                    "hex": frame.hex(),
                                }
                            )
                        taken[number, side] = len(frames)

            for about, command in steps:
                options = dict(command)
                client.call(options.pop("method"), *options.pop("args", ()), **options)
                note(about)
            if wait_s:
                time.sleep(wait_s)
                note("idle")
            if terminate:
                server.terminate()
                note("the server ends")


def record_bolt(folder: Path) -> list[dict[str, Any]]:
    recorder = Recorder(folder)
    for calling in (Calling.BOLT_NODE, Calling.BOLT2_NODE, Calling.BOLT2_CRC_NODE):
        steps = (*CALLS, NULL, CRASH, ONEWAY, HEARTBEAT)
        recorder.pair(Serving.BOLT_NODE, calling, bolt_frames, steps)
    late = ("a server's time-out", {"method": "slow", "args": [300], "timeout_ms": 100, "sync": True})
    unknown = ("an unknown service", {"method": "who", "service": "no.Such", "sync": True})
    crash = ("a method that raises", {**CRASH[1], "sync": True})
    recorder.pair(
        Serving.BOLT_PYTHON, Calling.BOLT_PYTHON, bolt_frames, (CALLS[0], WITH_PROPERTIES, crash, unknown, late, ONEWAY)
    )
    for calling in (Calling.BOLT_JAVA, Calling.BOLT2_JAVA, Calling.BOLT2_CRC_JAVA):
        steps = (CALLS[0], WITH_PROPERTIES, NULL, CRASH, ONEWAY)
        recorder.pair(Serving.BOLT_JAVA, calling, bolt_frames, steps, client_options=QUICK_HEARTBEATS, wait_s=0.6)
    return [*map(with_bolt_fields, recorder.frames), *statuses("bolt", with_bolt_fields)]


def record_dubbo(folder: Path) -> list[dict[str, Any]]:
    recorder = Recorder(folder)
    idle = {"heartbeat_ms": 1000}
    grouped = ("a call with a group", {"method": "echo", "args": ["hello"], "group": "blue"})
    java = tuple((about, {**command, **idle}) for about, command in (*CALLS, WITH_PROPERTIES, grouped, NULL, ONEWAY))
    recorder.pair(Serving.DUBBO_JAVA, Calling.DUBBO_JAVA, dubbo_frames, java, wait_s=2.5, terminate=True)
    generic = tuple((about, {**command, **idle}) for about, command in (CALLS[0], CALLS[1], NULL))
    recorder.pair(Serving.DUBBO_JAVA, Calling.DUBBO_JAVA_GENERIC, dubbo_frames, generic)
    recorder.pair(
        Serving.DUBBO_JAVA, Calling.DUBBO_NODE, dubbo_frames, (*CALLS, WITH_PROPERTIES, NULL, ONEWAY, HEARTBEAT)
    )
    recorder.pair(Serving.DUBBO_JAVA, Calling.DUBBO2_JS, dubbo_frames, (*CALLS, NULL))
    recorder.pair(Serving.DUBBO_JAVA, Calling.DUBBO_PYTHON, dubbo_frames, (*CALLS, WITH_PROPERTIES, NULL))
    recorder.pair(Serving.DUBBO_NODE, Calling.DUBBO_NODE, dubbo_frames, (*CALLS, CRASH, ONEWAY, HEARTBEAT))
    frames = [*recorder.frames, *statuses("dubbo", lambda frame: frame)]
    bodies = "\n".join(frame["hex"][32:] for frame in frames) + "\n"
    read = subprocess.run(["node", "hessian.js"], cwd=NODE, input=bodies, capture_output=True, text=True, check=True)
    return [
        with_dubbo_fields(frame, json.loads(values))
        for frame, values in zip(frames, read.stdout.splitlines(), strict=True)
    ]


def record_thrift(folder: Path) -> list[dict[str, Any]]:
    recorder = Recorder(folder)
    steps = tuple(
        (about, {"service": "", **{key: value for key, value in command.items() if key != "oneway"}})
        for about, command in (
            *CALLS[:2],
            ("another service of a multiplexed connection", {"method": "who", "service": "Echo"}),
            ("a call", {"method": "slow", "args": [1]}),
            ONEWAY,
        )
    )
    for serving, calling in (
        (Serving.THRIFT_BINARY, Calling.THRIFT_BINARY),
        (Serving.THRIFT_COMPACT, Calling.THRIFT_COMPACT),
    ):
        recorder.pair(serving, calling, framed_thrift, steps)
    return recorder.frames


def statuses(protocol: str, fields: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    """A response of each status, as the Node libraries write them."""
    done = subprocess.run(["node", "statuses.js"], cwd=NODE, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        fields({"about": line["name"], "from": "server", "client": "none", "server": "encoder", "hex": line["hex"]})
        for line in lines
        if line["protocol"] == protocol
    ]


def with_bolt_fields(frame: dict[str, Any]) -> dict[str, Any]:
    data = bytes.fromhex(frame["hex"])
    proto, at = data[0], 2 if data[0] == 2 else 1
    version = data[1] if proto == 2 else None
    kind, command, _, identity, codec = struct.unpack_from("!BHBIB", data, at)
    at += 9
    fields: dict[str, Any] = {"proto": proto, "type": kind, "command": command, "id": identity, "codec": codec}
    if proto == 2:
        fields |= {"version": version, "switch": data[at]}
        at += 1
    if kind:
        fields["timeout_ms"] = struct.unpack_from("!i", data, at)[0]
        at += 4
    else:
        fields["status"] = struct.unpack_from("!H", data, at)[0]
        at += 2
    class_length, header_length, content_length = struct.unpack_from("!HHI", data, at)
    at += 8
    fields["class"] = data[at : at + class_length].decode()
    at += class_length
    fields["headers"] = bolt_headers(data[at : at + header_length])
    at += header_length + content_length
    fields["content_length"] = content_length
    rest = data[at:]
    if rest:
        assert rest == struct.pack("!I", zlib.crc32(data[:at])), frame
        fields["crc"] = rest.hex()
    return {**frame, "fields": fields}


def bolt_headers(block: bytes) -> dict[str, str]:
    texts, at = [], 0
    while at < len(block):
        (length,) = struct.unpack_from("!i", block, at)
        texts.append(block[at + 4 : at + 4 + max(0, length)].decode())
        at += 4 + max(0, length)
    return dict(zip(texts[::2], texts[1::2], strict=True))


def with_dubbo_fields(frame: dict[str, Any], values: list[Any]) -> dict[str, Any]:
    data = bytes.fromhex(frame["hex"])
    flag, status, identity, length = struct.unpack_from("!BBqI", data, 2)
    fields: dict[str, Any] = {
        "request": bool(flag & 0x80),
        "two_way": bool(flag & 0x40),
        "event": bool(flag & 0x20),
        "serialization": flag & 0x1F,
        "id": identity,
        "body_length": length,
    }
    if not fields["request"]:
        fields["status"] = status
    if fields["event"] or not fields["request"]:
        fields["values"] = values
    else:
        names = ("dubbo_version", "path", "version", "method", "parameter_types")
        fields |= dict(zip(names, values, strict=False))
        fields["attachments"] = values[-1]
    return {**frame, "fields": fields}


def main(wanted: list[str]) -> None:
    recorders = {"bolt": record_bolt, "dubbo": record_dubbo, "thrift": record_thrift}
    GOLDEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for protocol in wanted or list(recorders):
            frames = recorders[protocol](Path(folder))
            lines = ",\n".join(json.dumps(frame) for frame in frames)
            (GOLDEN / f"{protocol}.json").write_text(f"[\n{lines}\n]\n")
            print(f"{protocol}: {len(frames)} frames")


if __name__ == "__main__":
    main(sys.argv[1:])
