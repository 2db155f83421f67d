"""What all translators of one `Translator` share: who we are, the rules, the extensions, and memory of parts.

A part (an HTTP filter's config, a virtual host, a filter chain) is translated on its own, with paths relative to it, and
remembered by its bytes: istiod puts the same filters into every chain, and sends 10,000 virtual hosts for one that changed.
The memory is two generations of at most `PART_MEMORY_BYTES` of source bytes each: what was not asked for during a whole
generation is forgotten.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import re2
from google.protobuf.message import Message

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.memo import Memo
from mosn_xds.control.translate.model import REGEX_PROGRAM_SIZE_LIMIT, NodeContext, Options
from mosn_xds.control.translate.registry import Category, Registry
from mosn_xds.control.translate.sniffed import node_list, sniffed_protocols
from mosn_xds.control.translate.take import Report, Take, unknown_field_paths
from mosn_xds.control.translate.validate import Validator
from mosn_xds.spec.snapshot import digest
from mosn_xds.xds.messages import Unpacked, named_type, unpack

if TYPE_CHECKING:
    from mosn_xds.control.translate.endpoint import EndpointMetadata

PART_MEMORY_BYTES = 32 << 20
_INHERITED = ("/dev/stdout", "/dev/stderr")
SKIP_FILTERS_KEY = "MOSN_XDS_SKIP_FILTERS"

T = TypeVar("T")
_PartKey = tuple[object, bytes]


@dataclass(frozen=True, slots=True)
class _Part:
    value: object
    report: Report
    size: int


class Context:
    """See the module."""

    def __init__(self, node: NodeContext, options: Options, registry: Registry) -> None:
        self.node = node
        self.options = options
        self.registry = registry
        self.validator = Validator()
        self.skip_filters = frozenset(node_list(node, SKIP_FILTERS_KEY))
        self.sniffed_protocols = sniffed_protocols(node, registry)
        self.endpoint_metadata: Memo[EndpointMetadata] = Memo(10_000)
        self._regexes: Memo[int] = Memo(10_000)
        self._regex_options = re2.Options()
        self._regex_options.log_errors = False
        self._young: dict[_PartKey, _Part] = {}
        self._old: dict[_PartKey, _Part] = {}
        self._young_bytes = 0

    def __repr__(self) -> str:
        return f"<Context of {self.node.id or 'an unnamed node'}, {len(self._young) + len(self._old)} parts remembered>"

    # --- parts ------------------------------------------------------------------------------------------------------

    def part(self, parent: Take, key: str, raw: bytes, kind: object, make: Callable[[Report], T]) -> T:
        """What `make` makes of the bytes `raw`, which stand at `key` of `parent`; remembered under `kind`.

        `make` builds its Takes on the report that it is given, with paths relative to the part.
        """
        part_key = (kind, digest(raw))
        part = self._young.get(part_key)
        if part is None:
            part = self._old.get(part_key) or self._make(parent, key, raw, make)
            if not part.report.files:  # what a file holds is not in `raw`
                self._remember(part_key, part)
        found = part.report
        if not found.is_empty:
            told = found.unread or found.warnings  # where it stands is only for these
            parent.report.merge(found, parent.path(key) if told else "")
        return cast(T, part.value)

    def _make(self, parent: Take, key: str, raw: bytes, make: Callable[[Report], object]) -> _Part:
        report = Report()
        try:
            value = make(report)
        except ConfigError as error:
            raise error.under(parent.path(key)) from None
        report.finish()
        return _Part(value, report, len(raw) + 64)

    def _remember(self, key: _PartKey, part: _Part) -> None:
        self._young[key] = part
        self._young_bytes += part.size
        if self._young_bytes > PART_MEMORY_BYTES:
            self._old, self._young, self._young_bytes = self._young, {}, 0

    # --- extensions -------------------------------------------------------------------------------------------------

    def open(self, unpacked: Unpacked, raw: bytes, report: Report, up: Take | None = None, key: str = "") -> Take:
        """Check a decoded extension message against the rules, and begin to read it."""
        message = cast(Message, unpacked.message)
        take = Take(message, report, up, key)
        unknown = unpacked.unknown_keys or unknown_field_paths(message, raw)
        for path in unknown:
            self.found_unknown(take, path)
        self.validator.validate(message, take.path())
        return take

    def found_unknown(self, take: Take, path: str) -> None:
        """A field that our protos do not have."""
        if self.options.reject_unknown_fields:
            name = take.message.DESCRIPTOR.full_name
            raise take.error(
                path, f"Protobuf message (type {name}) has unknown fields", "newer than this proxy, or a typo"
            )
        take.ignore(path, "unknown field")

    def extension(self, parent: Take, field: str, category: Category, name: str) -> "Extension":
        """Translate the Any in `field` of `parent`, an extension called `name`, by what the registry has for its type.

        Absent configuration is an extension of unknown type. Raises `ConfigError` for configuration that is wrong.
        """
        any_message = parent.message_of(field)
        if any_message is None:
            return Extension("", None)
        return self.extension_of(parent, field, any_message, category, name)

    def extension_of(self, parent: Take, key: str, any_message: Any, category: Category, name: str) -> "Extension":
        """The same for an Any in hand, which stands at `key` of `parent`."""

        def make(report: Report) -> Extension:
            translate = self.registry.find(
                category, named_type(any_message)
            )  # first: it may bring the message's module
            unpacked = unpack(any_message)
            if translate is None:
                return Extension(unpacked.type_name, None)
            if unpacked.message is None:
                raise ConfigError(
                    f"no message {unpacked.type_name} is known",
                    hint="the translator's module is to import its _pb2 module",
                )
            take = self.open(unpacked, any_message.value, report)
            return Extension(unpacked.type_name, translate(take, self, name))

        raw = any_message.value
        return self.part(parent, key, raw, (category, name, any_message.type_url), make)

    # --- values -----------------------------------------------------------------------------------------------------

    def check_regex(self, take: Take, name: str, pattern: str) -> str:
        """`pattern` if RE2 takes it, within Envoy's limit of program size. Raises ConfigError in RE2's words."""
        if self._regexes.get(pattern) is not None:
            return pattern
        try:
            compiled = re2.compile(pattern, self._regex_options)
        except re2.error as error:
            reason = error.args[0] if error.args else "invalid regular expression"
            raise take.error(name, reason.decode() if isinstance(reason, bytes) else str(reason)) from None
        limit = int(self.options.runtime.get("re2.max_program_size.error_level", REGEX_PROGRAM_SIZE_LIMIT))
        if compiled.programsize > limit:
            raise take.error(
                name,
                f"regex '{pattern}' RE2 program size of {compiled.programsize} > max program size of {limit} set for the "
                "error level threshold. Increase configured max program size if necessary.",
            )
        self._regexes.put(pattern, compiled.groups)
        return pattern

    def regex_groups(self, pattern: str) -> int:
        """How many groups a checked pattern has."""
        groups = self._regexes.get(pattern)
        return re2.compile(pattern, self._regex_options).groups if groups is None else groups

    def check_log_path(self, take: Take, name: str, path: str) -> str:
        """`path` if a log can be appended to there, as Envoy finds out when it loads the configuration."""
        if path in _INHERITED:
            return path
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644))
        except OSError as error:
            if error.errno != errno.ENXIO:  # a pipe that nobody reads yet
                raise take.error(name, f"unable to open file '{path}': {error.strerror}") from None
        return path


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension's type and what it was translated to; None for a type that the registry does not have."""

    type_name: str
    value: Any
