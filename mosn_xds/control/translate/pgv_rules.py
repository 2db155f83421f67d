"""Single rules of protoc-gen-validate as checks: a value in, the complaint out, None where there is nothing to say.

The texts are those of its C++ templates, which is what Envoy prints.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

_TextCheck = Callable[[Any], str | None]

_WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Bool", "String", "Bytes", "Int32", "Int64", "UInt32", "UInt64", "Float", "Double")
)
_HEADER_NAME = re.compile(rb"^:?[0-9a-zA-Z!#$%&'*+\-.^_|~`]+$")
_HEADER_VALUE = re.compile(rb"^[^\x00-\x08\x0a-\x1f\x7f]*$")
_NOT_STRICT = re.compile(rb"^[^\x00\n\r]*$")
_HOST_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_required(field: FieldDescriptor, rules: Any) -> bool:
    """Must the message in `field` be there?"""
    if field.message_type is None or field.containing_oneof is not None:
        return False
    kind = rules.WhichOneof("type")
    if rules.message.required:
        return True
    return kind in ("duration", "timestamp", "any") and getattr(rules, kind).required


def too_few(rules: Any) -> str:
    """The complaint about an empty list that has `min_items`."""
    text = count_check(rules, "item(s)", "items")(())
    return text or ""


def count_check(rules: Any, noun: str, plural: str) -> _TextCheck:
    """min, max and unique of a list or map."""
    least = rules.min_items if hasattr(rules, "min_items") else rules.min_pairs
    most = rules.max_items if hasattr(rules, "max_items") else rules.max_pairs
    unique = getattr(rules, "unique", False)

    def check(values: Any) -> str | None:
        count = len(values)
        if (least and count < least) or (most and count > most):
            if least and most:
                if least == most:
                    return f"value must contain exactly {least} {noun}"
                return f"value must contain between {least} and {most} {plural}, inclusive"
            if least:
                return f"value must contain at least {least} {noun}"
            return f"value must contain no more than {most} {noun}"
        if unique and len(set(values)) != count:
            return "repeated value must contain unique items"
        return None

    return check


def message_check(field: FieldDescriptor, rules: Any) -> _TextCheck | None:
    """For fields whose message is a wrapper, a Duration or an Any with rules; None for other messages."""
    inner: Any = field.message_type
    name = inner.full_name
    kind = rules.WhichOneof("type")
    if kind is None:
        return None
    if name in _WRAPPERS:
        scalar = scalar_check(inner.fields_by_name["value"], rules)
        return lambda wrapper: scalar(wrapper.value)
    if name == "google.protobuf.Duration":
        return _duration_check(rules.duration)
    if name == "google.protobuf.Any" and kind == "any":
        return _any_check(rules.any)
    return None


def scalar_check(field: FieldDescriptor, rules: Any) -> _TextCheck:
    """For numbers, bools, strings, bytes and enums."""
    kind = rules.WhichOneof("type")
    of_kind = getattr(rules, kind)
    match kind:
        case "string":
            return _string_check(of_kind)
        case "bytes":
            return _bytes_check(of_kind)
        case "enum":
            return _enum_check(field, of_kind)
        case "bool":
            wanted = of_kind.const
            return lambda value: None if value == wanted else f"value must equal {str(wanted).lower()}"
        case _:
            return _ignoring_empty(of_kind, _range_check(of_kind, _number_text, lambda value: value))


def _ignoring_empty(rules: Any, check: _TextCheck) -> _TextCheck:
    if not rules.ignore_empty:
        return check
    return lambda value: None if not value else check(value)


def _number_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _range_check(rules: Any, text: Callable[[Any], str], number: Callable[[Any], Any]) -> _TextCheck:
    """lt, lte, gt, gte, const, in and not_in, for numbers and what can be made one."""
    low = high = None
    low_open = high_open = False
    if rules.HasField("gt"):
        low, low_open = number(rules.gt), True
    elif rules.HasField("gte"):
        low = number(rules.gte)
    if rules.HasField("lt"):
        high, high_open = number(rules.lt), True
    elif rules.HasField("lte"):
        high = number(rules.lte)
    const = number(rules.const) if rules.HasField("const") else None
    allowed = [number(item) for item in getattr(rules, "in")]
    forbidden = [number(item) for item in rules.not_in]

    def inside(value: Any) -> bool:
        above = low is None or (value > low if low_open else value >= low)
        below = high is None or (value < high if high_open else value <= high)
        if low is not None and high is not None and low > high:
            return above or below
        return above and below

    def check(given: Any) -> str | None:
        value = number(given)
        if const is not None and value != const:
            return f"value must equal {text(const)}"
        if not inside(value):
            if low is not None and high is not None:
                side = "inside" if low <= high else "outside"
                opening, closing = ("(" if low_open else "["), (")" if high_open else "]")
                return f"value must be {side} range {opening}{text(low)}, {text(high)}{closing}"
            if low is not None:
                return f"value must be greater than {'' if low_open else 'or equal to '}{text(low)}"
            return f"value must be less than {'' if high_open else 'or equal to '}{text(high)}"
        if allowed and value not in allowed:
            return f"value must be in list [{' '.join(map(text, allowed))}]"
        if value in forbidden:
            return f"value must not be in list [{' '.join(map(text, forbidden))}]"
        return None

    return check


def _nanos(duration: Any) -> int:
    if isinstance(duration, int):
        return duration
    total: int = duration.seconds * 10**9 + duration.nanos
    return total


def _duration_text(nanos: int) -> str:
    seconds, rest = divmod(abs(nanos), 10**9)
    sign = "-" if nanos < 0 else ""
    if not rest:
        return f"{sign}{seconds}s"
    digits = f"{rest:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{sign}{seconds}.{digits}s"


def _duration_check(rules: Any) -> _TextCheck:
    return _range_check(rules, _duration_text, _nanos)


def _any_check(rules: Any) -> _TextCheck:
    allowed, forbidden = frozenset(getattr(rules, "in")), frozenset(rules.not_in)

    def check(value: Any) -> str | None:
        if allowed and value.type_url not in allowed:
            return f"type URL must be in list [{' '.join(sorted(allowed))}]"
        if value.type_url in forbidden:
            return f"type URL must not be in list [{' '.join(sorted(forbidden))}]"
        return None

    return check


def _enum_check(field: FieldDescriptor, rules: Any) -> _TextCheck:
    known = frozenset(field.enum_type.values_by_number) if rules.defined_only and field.enum_type is not None else None
    allowed, forbidden = frozenset(getattr(rules, "in")), frozenset(rules.not_in)
    const = rules.const if rules.HasField("const") else None

    def check(value: Any) -> str | None:
        if const is not None and value != const:
            return f"value must equal {const}"
        if known is not None and value not in known:
            return "value must be one of the defined enum values"
        if allowed and value not in allowed:
            return f"value must be in list [{' '.join(map(str, sorted(allowed)))}]"
        if value in forbidden:
            return f"value must not be in list [{' '.join(map(str, sorted(forbidden)))}]"
        return None

    return check


def _length_check(least: int, most: int, exact: int | None, unit: str) -> Callable[[int], str | None]:
    def check(length: int) -> str | None:
        if exact is not None and length != exact:
            return f"value length must be {exact} {unit}"
        if length < least or (most and length > most):
            if least and most:
                if least == most:
                    return f"value length must be {least} {unit}"
                return f"value length must be between {least} and {most} {unit}, inclusive"
            if least:
                return f"value length must be at least {least} {unit}"
            return f"value length must be at most {most} {unit}"
        return None

    return check


def _string_check(rules: Any) -> _TextCheck:
    checks: list[_TextCheck] = []
    if rules.HasField("len") or rules.min_len or rules.max_len:
        exact = rules.len if rules.HasField("len") else None
        characters = _length_check(rules.min_len, rules.max_len, exact, "characters")
        checks.append(lambda value: characters(len(value)))
    if rules.HasField("len_bytes") or rules.min_bytes or rules.max_bytes:
        exact_bytes = rules.len_bytes if rules.HasField("len_bytes") else None
        octets = _length_check(rules.min_bytes, rules.max_bytes, exact_bytes, "bytes")
        checks.append(lambda value: octets(len(value.encode())))
    if rules.prefix:
        checks.append(
            _unless(lambda value: value.startswith(rules.prefix), f'value does not have prefix "{rules.prefix}"')
        )
    if rules.suffix:
        checks.append(
            _unless(lambda value: value.endswith(rules.suffix), f'value does not have suffix "{rules.suffix}"')
        )
    if rules.contains:
        checks.append(
            _unless(lambda value: rules.contains in value, f'value does not contain substring "{rules.contains}"')
        )
    if rules.not_contains:
        checks.append(
            _unless(lambda value: rules.not_contains not in value, f'value contains substring "{rules.not_contains}"')
        )
    if rules.HasField("const"):
        checks.append(_unless(lambda value: value == rules.const, f"value must equal {rules.const}"))
    allowed, forbidden = tuple(getattr(rules, "in")), tuple(rules.not_in)
    if allowed:
        checks.append(_unless(lambda value: value in allowed, f"value must be in list [{' '.join(allowed)}]"))
    if forbidden:
        checks.append(
            _unless(lambda value: value not in forbidden, f"value must not be in list [{' '.join(forbidden)}]")
        )
    if rules.HasField("pattern"):
        compiled = re.compile(rules.pattern)
        shown = rules.pattern.replace("\\", "\\\\").replace('"', '\\"')
        text = f'value does not match regex pattern "{shown}"'
        checks.append(_unless(lambda value: compiled.search(value) is not None, text))
    well_known = rules.WhichOneof("well_known")
    if well_known is not None:
        checks.append(_well_known_check(well_known, rules))

    def check(value: Any) -> str | None:
        for one in checks:
            if (text := one(value)) is not None:
                return text
        return None

    return _ignoring_empty(rules, checks[0] if len(checks) == 1 else check)


def _unless(holds: Callable[[Any], bool], text: str) -> _TextCheck:
    return lambda value: None if holds(value) else text


def _well_known_check(name: str, rules: Any) -> _TextCheck:
    if name == "well_known_regex":
        strict = not rules.HasField("strict") or rules.strict
        of_name, of_value = (_HEADER_NAME, _HEADER_VALUE) if strict else (_NOT_STRICT, _NOT_STRICT)
        pattern = of_name if rules.well_known_regex == 1 else of_value
        text = f'value does not match regex pattern "{_printed(pattern.pattern)}"'
        match = pattern.match
        return lambda value: None if match(value.encode("utf-8", "surrogateescape")) else text
    holds, noun = {
        "email": (lambda value: "@" in value, "a valid email address"),
        "hostname": (_is_hostname, "a valid hostname"),
        "ip": (_is_ip, "a valid IP address"),
        "ipv4": (lambda value: _is_ip(value) and ":" not in value, "a valid IPv4 address"),
        "ipv6": (lambda value: _is_ip(value) and ":" in value, "a valid IPv6 address"),
        "uri": (lambda value: ":" in value, "a valid URI"),
        "uri_ref": (lambda value: True, "a valid URI"),
        "address": (lambda value: _is_ip(value) or _is_hostname(value), "a valid hostname, or ip address"),
        "uuid": (lambda value: _UUID.fullmatch(value) is not None, "a valid UUID"),
    }[name]
    return _unless(holds, f"value must be {noun}")


def _printed(pattern: bytes) -> str:
    return pattern.decode().replace("\\", "\\\\")


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_hostname(value: str) -> bool:
    name = value.removesuffix(".")
    return len(name) <= 253 and all(_HOST_LABEL.fullmatch(label) for label in name.split("."))


def _bytes_check(rules: Any) -> _TextCheck:
    exact = rules.len if rules.HasField("len") else None
    length = _length_check(rules.min_len, rules.max_len, exact, "bytes")
    return _ignoring_empty(rules, lambda value: length(len(value)))
