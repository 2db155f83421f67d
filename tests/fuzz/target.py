"""One protocol under atheris: ``python -m tests.fuzz.target NAME [what libFuzzer takes]``. `tests.fuzz.run` starts it."""

import sys

import atheris  # type: ignore[import-not-found, unused-ignore]

with atheris.instrument_imports(include=["mosn_xds.data.codec.rpc"]):
    from mosn_xds.data.codec.rpc.harness import check_bytes
    from tests.fuzz.material import protocol

    fuzzed = protocol(sys.argv[1])

atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: check_bytes(fuzzed, data))
atheris.Fuzz()
