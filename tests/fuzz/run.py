"""Fuzz the RPC codecs: ``python -m tests.fuzz.run [NAME ...] [--seconds N]``, by default each for a minute.

Whatever bytes come, a codec has to make messages or a BadFrame of them, and everything that the engine does with messages
has to work (`check_bytes`). Hypothesis damages frames of real peers; where atheris is installed, it goes on from there by the
coverage that it sees. What fails is printed, as small as could be made, in hexadecimal: one line for a test.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed

from mosn_xds.data.codec.rpc import RpcProtocol
from mosn_xds.data.codec.rpc.harness import check_bytes
from tests.fuzz.material import NAMES, damaged, protocol, seeds


def by_hypothesis(fuzzed: RpcProtocol, frames: list[bytes], seconds: float) -> tuple[int, str]:
    """How many inputs were tried, and what failed with which of them."""
    tried, latest = 0, b""
    until_s = time.monotonic() + seconds

    @settings(
        max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False, phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(damaged(frames))
    def attempt(data: bytes) -> None:
        nonlocal tried, latest
        tried, latest = tried + 1, data
        check_bytes(fuzzed, data)

    rounds = 0
    while time.monotonic() < until_s:
        rounds += 1
        try:
            with_seed(rounds)(attempt)()
        except AssertionError as error:
            return tried, f"{error}\ninput: {latest.hex()}\n"  # the last that is tried is the smallest that fails
    return tried, ""


def by_atheris(name: str, frames: list[bytes], seconds: float) -> str:
    """What libFuzzer said if something failed; empty if nothing did."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for index, frame in enumerate(frames):
            (corpus / str(index)).write_bytes(frame)
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.target", name, str(corpus), f"-max_total_time={max(int(seconds), 1)}",
             f"-artifact_prefix={folder}/", "-max_len=4096", "-timeout=10", "-rss_limit_mb=1024"],
            capture_output=True, text=True, check=False, timeout=seconds + 120,
        )  # fmt: skip
        if done.returncode == 0:
            return ""
        inputs = [path.read_bytes().hex() for path in Path(folder).iterdir() if path.is_file()]
        said = done.stdout[-2000:] or done.stderr[-2000:]
        return "\n".join([said.strip(), *(f"input: {data}" for data in inputs), ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 if something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", default=NAMES, help="entry points; the built-in ones by default"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for each codec (default 60)")
    chosen = parser.parse_args(arguments)
    guided = importlib.util.find_spec("atheris") is not None
    seconds = chosen.seconds / 2 if guided else chosen.seconds
    failed = False
    for name in chosen.names:
        frames = seeds(name)
        tried, trouble = by_hypothesis(protocol(name), frames, seconds)
        if guided and not trouble:
            trouble = by_atheris(name, frames, seconds)
        failed = failed or bool(trouble)
        how = "hypothesis, atheris" if guided else "hypothesis"
        print(f"{name}: {trouble or 'nothing found'} ({len(frames)} seeds, {tried} inputs damaged, {how})", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
