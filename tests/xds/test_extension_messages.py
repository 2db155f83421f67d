"""Our own messages: what is checked in is what the sources say, and the sources keep to the rules of buf's linter."""

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message import Message

from mosn_xds.extensions.rpc.v1 import codec_pb2, inspector_pb2, route_pb2
from mosn_xds.xds.messages import message_class

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "proto").rglob("*.proto"))
TOOLS = ROOT / ".venv" / "proto-tools"
"""Where `make proto` puts the compiler."""
MODULES = (codec_pb2, inspector_pb2, route_pb2)
MESSAGES = [message for module in MODULES for message in module.DESCRIPTOR.message_types_by_name.values()]


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_protos", ROOT / "proto" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The descriptors of the sources as they are now, with their comments, by file name."""
    monkeypatch.syspath_prepend(str(TOOLS))
    pytest.importorskip("grpc_tools", reason="the compiler is not here; `make proto` brings it")
    out = tmp_path / "out.binpb"
    generator().compile_protos(
        "--include_source_info", f"--descriptor_set_out={out}", descriptors=tmp_path / "imports.binpb"
    )
    found = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    return {file.name: file for file in found.file}


def without_comments(file: Message) -> Any:
    copy: Any = type(file)()
    copy.CopyFrom(file)
    copy.ClearField("source_code_info")
    for message in copy.message_type:
        for field in message.field:
            field.ClearField("json_name")
    return copy


def test_the_checked_in_code_is_that_of_the_sources(compiled: dict[str, Any]) -> None:
    for module in MODULES:
        held = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        assert without_comments(held) == without_comments(compiled[module.DESCRIPTOR.name])
    assert set(compiled) == {module.DESCRIPTOR.name for module in MODULES}


def test_every_message_and_field_has_its_comment(compiled: dict[str, Any]) -> None:
    for file in compiled.values():
        commented = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}
        for number, message in enumerate(file.message_type):
            assert (4, number) in commented, message.name
            for position, field in enumerate(message.field):
                assert (4, number, 2, position) in commented, f"{message.name}.{field.name}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_package_is_its_folder_and_has_a_version(source: Path) -> None:
    package = re.search(r"^package (.+);$", source.read_text(), re.MULTILINE)
    assert package is not None
    assert package[1].split(".") == list(source.relative_to(ROOT / "proto").parent.parts)
    assert re.fullmatch(r"v[0-9]+", package[1].rpartition(".")[2])


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_names_are_in_their_cases(message: Any) -> None:
    assert re.fullmatch(r"([A-Z][a-z0-9]*)+", message.name)
    for field in message.fields:
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", field.name)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_messages_are_found_by_their_type(message: Any) -> None:
    found = message_class(f"type.googleapis.com/{message.full_name}")
    assert found is not None
    assert found.DESCRIPTOR is message
