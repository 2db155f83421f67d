"""Compiles the messages in this folder into the package, for `make proto`.

What they import of Envoy comes out of xds-protos, which has no sources, only descriptors: the compiler is given those. It
is that of the version that xds-protos was made with, so that both work with the same versions of protobuf.
"""

import importlib
import re
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool

HERE = Path(__file__).resolve().parent
SOURCES = sorted(HERE.rglob("*.proto"))
_IMPORT = re.compile(r'^import "(.+)\.proto";$', re.MULTILINE)


def imported() -> bytes:
    """The descriptors of all that the sources import, each behind those that it needs."""
    pool = descriptor_pool.Default()
    found = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(name: str) -> None:
        if name not in seen:
            seen.add(name)
            file = pool.FindFileByName(name)
            for one in file.dependencies:
                add(one.name)
            file.CopyToProto(found.file.add())

    for source in SOURCES:
        for path in _IMPORT.findall(source.read_text()):
            if (HERE / f"{path}.proto").exists():  # one of ours
                continue
            importlib.import_module(f"{path.replace('/', '.')}_pb2")
            add(f"{path}.proto")
    return found.SerializeToString()


def compile_protos(*options: str, descriptors: Path) -> None:
    """Run the compiler on all sources; `descriptors` is a file that it reads. Raises RuntimeError where it fails."""
    from grpc_tools import protoc  # noqa: PLC0415 - only who compiles needs it

    descriptors.write_bytes(imported())
    names = [str(source.relative_to(HERE)) for source in SOURCES]
    if protoc.main(["protoc", f"--descriptor_set_in={descriptors}", f"--proto_path={HERE}", *options, *names]):
        raise RuntimeError("protoc failed")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        compile_protos(f"--python_out={HERE.parent}", descriptors=Path(folder) / "imported.binpb")
