"""The validation rules in the protos (protoc-gen-validate), checked in one generic way and in Envoy's words.

A plan is compiled per message type at its first use: for each field a check of its value and, where the field's own
messages carry rules, the way down; and what must be there. Message types with no rule below them have no plan, and are
never walked. The first failure ends a check, as in Envoy. What stands in an Any is validated when it is unpacked.
"""

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from validate import validate_pb2

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate import pgv_rules

_Failure = tuple[str, str]
"""Field path below the checked message, and the text from the first ``XValidationError`` on."""

_Check = Callable[[Any], _Failure | None]


class _Plan:
    """What to check in a message of one type."""

    __slots__ = ("absent", "by_number", "one_ofs")

    def __init__(self) -> None:
        self.by_number: dict[int, _Check] = {}
        self.absent: list[tuple[int, _Failure]] = []
        self.one_ofs: list[tuple[frozenset[int], _Failure]] = []

    def check(self, message: Message, without: Collection[int] = ()) -> _Failure | None:
        by_number = self.by_number
        present = message.ListFields()
        for field, value in present:
            check = by_number.get(field.number)
            if check is not None and field.number not in without and (failure := check(value)) is not None:
                return failure
        if self.absent or self.one_ofs:
            numbers = {field.number for field, _ in present}
            for number, failure in self.absent:
                if number not in numbers:
                    return failure
            for members, failure in self.one_ofs:
                if numbers.isdisjoint(members):
                    return failure
        return None


class Validator:
    """Holds the plans. Stateless otherwise: one per process is enough, and several do no harm."""

    def __init__(self) -> None:
        self._plans: dict[Any, _Plan | None] = {}

    def __repr__(self) -> str:
        return f"<Validator {sum(plan is not None for plan in self._plans.values())} plans>"

    def validate(self, message: Message, path: str = "", *, above: str = "", without: Collection[int] = ()) -> None:
        """Raises `ConfigError` for the first rule that `message` breaks; `path` is where it stands.

        `above` says whose field it is where it is checked as a part (``RouteConfigurationValidationError.VirtualHosts[3]``).
        Fields with the numbers `without` are parts in their turn, and passed by.
        """
        plan = self._plan(message.DESCRIPTOR)
        if plan is None or (failure := plan.check(message, without)) is None:
            return
        at, text = failure
        if above:
            text = f"{above}: embedded message failed validation | caused by {text}"
        raise ConfigError(
            f"Proto constraint validation failed ({text})", path=f"{path}.{at}" if path and at else path or at
        )

    # --- compiling --------------------------------------------------------------------------------------------------

    def _plan(self, descriptor: Any) -> _Plan | None:
        try:
            return self._plans[descriptor]
        except KeyError:
            pass
        if not _has_rules(descriptor, set()):
            self._plans[descriptor] = None
            return None
        plan = self._plans[descriptor] = _Plan()
        options = descriptor.GetOptions().Extensions
        if options[validate_pb2.disabled] or options[validate_pb2.ignored]:
            return plan
        for field in descriptor.fields:
            self._compile_field(plan, field, descriptor.name)
        for one_of in descriptor.oneofs:
            if one_of.GetOptions().Extensions[validate_pb2.required]:
                members = frozenset(field.number for field in one_of.fields)
                text = f'field: "{one_of.name}", reason: is required'
                plan.one_ofs.append((members, ("", text)))
        return plan

    def _compile_field(self, plan: _Plan, field: FieldDescriptor, message_name: str) -> None:
        rules = field.GetOptions().Extensions[validate_pb2.rules]
        said = f"{message_name}ValidationError.{_camel(field.name)}"
        kind = rules.WhichOneof("type")
        check: _Check | None
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            check = self._map_check(field, rules.map, said)
            if rules.map.min_pairs and not rules.map.ignore_empty:
                text = pgv_rules.count_check(rules.map, "pair(s)", "pairs")(())
                plan.absent.append((field.number, (field.name, f"{said}: {text}")))
        elif field.is_repeated:
            check = self._repeated_check(field, rules.repeated, said)
            if rules.repeated.min_items and not rules.repeated.ignore_empty:
                plan.absent.append((field.number, (field.name, f"{said}: {pgv_rules.too_few(rules.repeated)}")))
        else:
            check = self._value_check(field, rules, field.name, said)
            if pgv_rules.is_required(field, rules):
                plan.absent.append((field.number, (field.name, f"{said}: value is required")))
            elif kind is not None and field.message_type is None and not field.has_presence:
                text = pgv_rules.scalar_check(field, rules)(field.default_value)
                if text is not None:  # proto3 leaves a zero value out, and the rule forbids zero
                    plan.absent.append((field.number, (field.name, f"{said}: {text}")))
        if check is not None:
            plan.by_number[field.number] = check

    def _value_check(self, field: FieldDescriptor, rules: Any, path: str, said: str) -> _Check | None:
        """For one value of `field`, whether it stands alone, in a list or in a map."""
        if field.message_type is None:
            if rules.WhichOneof("type") is None:
                return None
            scalar = pgv_rules.scalar_check(field, rules)

            def check_scalar(value: Any) -> _Failure | None:
                text = scalar(value)
                return None if text is None else (path, f"{said}: {text}")

            return check_scalar
        of_message = pgv_rules.message_check(field, rules)
        if of_message is not None:

            def check_known(value: Any) -> _Failure | None:
                text = of_message(value)
                return None if text is None else (path, f"{said}: {text}")

            return check_known
        if rules.message.skip or not _has_rules(field.message_type, set()):
            return None
        return self._down(field.message_type, path, said)

    def _down(self, descriptor: Any, path: str, said: str) -> _Check:
        plans, compile_plan = self._plans, self._plan

        def check(value: Any) -> _Failure | None:
            plan = plans.get(descriptor) or compile_plan(descriptor)
            failure = None if plan is None else plan.check(value)
            if failure is None:
                return None
            return _join(path, failure[0]), f"{said}: embedded message failed validation | caused by {failure[1]}"

        return check

    def _repeated_check(self, field: FieldDescriptor, rules: Any, said: str) -> _Check | None:
        one = None
        if rules.HasField("items") or field.message_type is not None:
            one = self._value_check(field, rules.items, "", "")
        counts = pgv_rules.count_check(rules, "item(s)", "items") if rules.ByteSize() else None
        if one is None and counts is None:
            return None
        name = field.name

        def check(values: Any) -> _Failure | None:
            if counts is not None and (text := counts(values)) is not None:
                return name, f"{said}: {text}"
            if one is not None:
                for number, value in enumerate(values):
                    if (failure := one(value)) is not None:
                        return _join(f"{name}[{number}]", failure[0]), f"{said}[{number}]{failure[1]}"
            return None

        return check

    def _map_check(self, field: FieldDescriptor, rules: Any, said: str) -> _Check | None:
        entry: Any = field.message_type
        key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
        of_key = self._value_check(key_field, rules.keys, "", "")
        of_value = self._value_check(value_field, rules.values, "", "")
        counts = pgv_rules.count_check(rules, "pair(s)", "pairs") if rules.ByteSize() else None
        if of_key is None and of_value is None and counts is None:
            return None
        name = field.name

        def check(values: Any) -> _Failure | None:
            if counts is not None and (text := counts(values)) is not None:
                return name, f"{said}: {text}"
            for key, value in values.items():
                failure = (of_key and of_key(key)) or (of_value and of_value(value))
                if failure:
                    return _join(f"{name}.{key}", failure[0]), f"{said}[{key}]{failure[1]}"
            return None

        return check


def _join(path: str, below: str) -> str:
    return f"{path}.{below}" if path and below else path or below


def _camel(name: str) -> str:
    return re.sub(r"(?:^|_)([a-z0-9])", lambda found: found.group(1).upper(), name)


def _has_rules(descriptor: Any, seen: set[Any]) -> bool:
    """Does the type, or any message below it, carry a rule?"""
    if descriptor in seen:
        return False
    seen.add(descriptor)
    if any(one_of.GetOptions().Extensions[validate_pb2.required] for one_of in descriptor.oneofs):
        return True
    fields: Iterable[FieldDescriptor] = descriptor.fields
    if any(field.GetOptions().HasExtension(validate_pb2.rules) for field in fields):
        return True
    return any(field.message_type is not None and _has_rules(field.message_type, seen) for field in fields)
