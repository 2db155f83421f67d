"""Fixtures for translators."""

from pathlib import Path
from typing import Any

import pytest

from mosn_xds.control.translate.take import Report, Take


class CheckedFields(dict[str, Any]):
    """Fails when a translator asks for a name that the message does not have: it would read the default for ever."""

    def __init__(self, fields: dict[str, Any], descriptor: Any) -> None:
        super().__init__(fields)
        self.known = descriptor.fields_by_name
        self.owner = descriptor.full_name

    def check(self, name: str) -> None:
        assert name in self.known or not name.isidentifier(), f"{self.owner} has no field {name!r}"

    def pop(self, name: str, *default: Any) -> Any:
        self.check(name)
        return super().pop(name, *default)

    def get(self, name: str, default: Any = None) -> Any:
        self.check(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.check(str(name))
        return super().__contains__(name)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Access logs are opened when they are translated."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def checked_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name that is taken must exist in its message."""
    original = Take.__init__

    def checked(self: Take, message: Any, report: Report, up: Take | None = None, key: str = "") -> None:
        original(self, message, report, up, key)
        self.left = CheckedFields(self.left, message.DESCRIPTOR)

    monkeypatch.setattr(Take, "__init__", checked)
