"""Hessian 2.0 without building a value: each tag of the grammar is passed over to its very end, and nothing goes wild."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosn_xds.data.codec.rpc import BadFrame
from mosn_xds.data.codec.rpc.dubbo.hessian2 import (
    MAX_CHUNKS,
    MAX_DEPTH,
    MAX_VALUES,
    Body,
    is_int,
    is_string,
    read_int,
    read_string,
    read_strings,
    skip,
    write_string,
)

DEFINED = b"C\x03Car\x92\x05color\x05model"

VALUES = {
    "null": b"N",
    "true": b"T",
    "false": b"F",
    "int, one byte, least": b"\x80",
    "int, one byte, greatest": b"\xbf",
    "int, two bytes, least": b"\xc0\x00",
    "int, two bytes, greatest": b"\xcf\xff",
    "int, three bytes, least": b"\xd0\x00\x00",
    "int, three bytes, greatest": b"\xd7\xff\xff",
    "int, four bytes": b"I\x7f\xff\xff\xff",
    "long, one byte, least": b"\xd8",
    "long, one byte, greatest": b"\xef",
    "long, two bytes, least": b"\xf0\x00",
    "long, two bytes, greatest": b"\xff\xff",
    "long, three bytes, least": b"\x38\x00\x00",
    "long, three bytes, greatest": b"\x3f\xff\xff",
    "long, four bytes": b"Y\x00\x00\x00\x01",
    "long, eight bytes": b"L" + b"\x01" * 8,
    "double, 0": b"\x5b",
    "double, 1": b"\x5c",
    "double, a byte": b"\x5d\x80",
    "double, two bytes": b"\x5e\x00\x80",
    "double, four bytes": b"\x5f\x00\x00\x2f\xda",
    "double": b"D\x40\x28\x80\x00\x00\x00\x00\x00",
    "date": b"J\x00\x00\x00\xd0\x4b\x92\x84\xb8",
    "date in minutes": b"K\x00\xe3\x83\x8f",
    "string, empty": b"\x00",
    "string, 31": b"\x1f" + b"a" * 31,
    "string, two bytes of length": b"\x30\x01a",
    "string, 1023": b"\x33\xff" + b"a" * 1023,
    "string, three bytes of length": b"S\x04\x00" + b"a" * 1024,
    "string in chunks": b"R\x00\x02abR\x00\x01cS\x00\x01d",
    "string in chunks, the last one short": b"R\x00\x02ab\x01c",
    "string in chunks, the last one middling": b"R\x00\x02ab\x30\x01c",
    "string of two bytes each": b"\x03" + "äöü".encode(),
    "string of three bytes each": b"\x02" + "中文".encode(),
    "string of mixed sizes": b"\x07" + "aä中bb文ß".encode(),
    "string with surrogates": b"\x04a\xed\xa0\xbd\xed\xb8\x80b",
    "string with four bytes for one unit": b"\x03a\xf0\x9f\x98\x80b",
    "string, long, beyond ASCII": b"S\x80\x00" + "中".encode() * 0x8000,
    "binary, empty": b"\x20",
    "binary, 15": b"\x2f" + b"\xff" * 15,
    "binary, two bytes of length": b"\x37\xff" + b"Z" * 1023,
    "binary, three bytes of length": b"B\x10\x00" + b"Z" * 4096,
    "binary in chunks": b"A\x00\x02ZZA\x00\x01ZB\x00\x01Z",
    "binary in chunks, the last one short": b"A\x00\x02ZZ\x21Z",
    "binary in chunks, the last one middling": b"A\x00\x02ZZ\x34\x02ZZ",
    "list with a type and an end": b"U\x04[int\x90\x91Z",
    "list with an end": b"W\x90\x91Z",
    "list with a type and a length": b"V\x04[int\x92\x90\x91",
    "list with a length": b"X\x92\x90\x91",
    "list, compact, with a type": b"\x72\x04[int\x90\x91",
    "list, compact, with a type's number": b"\x71\x90\x90",
    "list, compact": b"\x7a\x90\x91\x92"[:3],
    "list, compact, seven": b"\x7f" + b"\x90" * 7,
    "list, compact, with a type, seven": b"\x77\x01a" + b"\x90" * 7,
    "list, empty": b"\x78",
    "list, long": b"X\xd4\x80\x00" + b"\x90" * 0x8000,
    "map": b"H\x01a\x90\x01b\x91Z",
    "map, empty": b"HZ",
    "map with a type": b"M\x03Car\x05color\x01xZ",
    "map with a type's number": b"M\x90\x05color\x01xZ",
    "reference": b"Q\x90",
    "reference, far": b"QI\x00\x00\xff\xff",
    "object": DEFINED + b"\x60\x03red\x91",
    "object by a number": DEFINED + b"O\x90\x03red\x91",
    "object without fields": b"C\x01a\x90\x60",
    "two classes": DEFINED + b"\x60" + b"C\x01B\x91\x01x" + b"\x61\x60\x90\x91\x92",
    "lists in maps in lists": b"\x7aH\x01aW\x78ZZX\x91N",
}
EMPTY: list[int] = []


@pytest.mark.parametrize("name", VALUES)
def test_each_value_ends_where_it_ends(name: str) -> None:
    value = VALUES[name]
    for data in (value, value + b"Z", b"\xff" + value + b"\x05after"):
        begin = 1 if data[:1] == b"\xff" and value[:1] != b"\xff" else 0
        assert skip(data, begin, 1, Body()) == begin + len(value)


@pytest.mark.parametrize("name", VALUES)
def test_each_value_ends_where_it_ends_inside_of_others(name: str) -> None:
    value = VALUES[name]
    around = b"\x7a" + value + b"H\x01k" + value.replace(b"C\x01a\x90", b"") + b"Z"
    if value[:1] == b"C":
        around = b"\x79" + value
    assert skip(around, 0, 1, Body()) == len(around)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_cut_off_is_a_bad_frame(name: str) -> None:
    value = VALUES[name]
    for cut in {0, len(value) // 2, len(value) - 1}:
        with pytest.raises(BadFrame):
            skip(value[:cut], 0, 1, Body())


@pytest.mark.parametrize("tag", [0x40, 0x45, 0x47, 0x50, 0x5A])
def test_tags_that_nothing_begins_with(tag: int) -> None:
    with pytest.raises(BadFrame, match="hessian_unknown_tag"):
        skip(bytes((tag,)) + b"\x90" * 20, 0, 1, Body())


def test_every_other_tag_begins_something() -> None:
    begun = {value[0] for value in VALUES.values()} | {0x51}
    assert {tag for tag in range(256) if not _known(tag)} == {0x40, 0x45, 0x47, 0x50, 0x5A}
    assert begun <= {tag for tag in range(256) if _known(tag)}


def _known(tag: int) -> bool:
    try:
        skip(bytes((tag,)), 0, 1, Body())
    except BadFrame as error:
        return str(error) != "hessian_unknown_tag"
    return True


def test_classes_are_known_to_what_follows() -> None:
    body = Body()
    end = skip(DEFINED + b"\x60\x91\x92", 0, 1, body)
    assert body.classes == [2]
    assert skip(b"\x60\x91\x92N", 0, 2, body) == 4
    assert end == len(DEFINED) + 3


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\x60", "hessian_unknown_class"),
        (b"O\x8f", "hessian_unknown_class"),
        (DEFINED + b"\x61NN", "hessian_unknown_class"),
        (b"C\x01a\x8f", "hessian_bad_length"),
        (b"C\x01aI\x7f\xff\xff\xff", "hessian_bad_length"),
        (b"X\x8f", "hessian_bad_length"),
        (b"X\x8e", "hessian_bad_length"),
        (b"XI\x7f\xff\xff\xff\x90", "hessian_bad_length"),
        (b"V\x01a\x8f", "hessian_bad_length"),
        (b"X\x01a", "hessian_int_expected"),
        (b"QT", "hessian_int_expected"),
        (b"A\x00\x00N", "hessian_binary_expected"),
        (b"R\x00\x01aN", "hessian_string_expected"),
        (b"\x01\x80" + b"a" * 9, "hessian_bad_utf8"),
        (b"\x02\xf0\x9f\x98\x80", "hessian_truncated"),
        (b"\x79" * (MAX_DEPTH + 1) + b"N", "hessian_too_deep"),
        (b"W" * 100_000, "hessian_too_deep"),
        (b"C\x01aI\x00\x03\xff\xff" + b"\x00" * (MAX_VALUES - 1) + b"W" * 100, "hessian_too_many_values"),
        (b"R\x00\x00" * MAX_VALUES + b"\x00", "hessian_too_many_values"),
        (b"A\x00\x00" * MAX_VALUES + b"\x20", "hessian_too_many_values"),
        (b"CR\x00\x01a\x01b\x90", "hessian_name_too_long"),
        (b"MR\x00\x01a\x01bZ", "hessian_name_too_long"),
        (b"W" + b"N" * MAX_VALUES + b"Z", "hessian_too_many_values"),
    ],
)
def test_values_that_cannot_be(value: bytes, reason: str) -> None:
    with pytest.raises(BadFrame, match=f"^{reason}$"):
        skip(value, 0, 1, Body())


def test_as_deep_and_as_many_as_allowed() -> None:
    deep = b"\x79" * MAX_DEPTH + b"N"
    assert skip(deep, 0, 1, Body()) == len(deep)
    many = b"W" + b"N" * (MAX_VALUES - 1) + b"Z"
    assert skip(many, 0, 1, Body()) == len(many)


def test_values_of_a_body_count_together_however_often_it_is_looked_at() -> None:
    half = b"W" + b"N" * (MAX_VALUES // 2) + b"Z"
    body = Body()
    at = skip(half * 2, 0, 1, body)
    with pytest.raises(BadFrame, match=r"^hessian_too_many_values$"):
        skip(half * 2, at, 1, body)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"\x80", -16), (b"\x90", 0), (b"\xbf", 47), (b"\xc0\x00", -2048), (b"\xc7\xff", -1), (b"\xcf\xff", 2047),
        (b"\xd0\x00\x00", -262144), (b"\xd7\xff\xff", 262143), (b"I\x80\x00\x00\x00", -(2**31)), (b"I\x00\x00\x00\x2a", 42),
    ],
)  # fmt: skip
def test_ints(value: bytes, number: int) -> None:
    assert is_int(value, 0)
    assert read_int(b"N" + value, 1) == (number, 1 + len(value))
    for cut in range(len(value)):
        with pytest.raises(BadFrame):
            read_int(value[:cut], 0)


@pytest.mark.parametrize("value", [b"", b"N", b"\x00", b"T", b"\xd8", b"Y\x00\x00\x00\x00"])
def test_what_is_no_int(value: bytes) -> None:
    assert not is_int(value, 0)
    with pytest.raises(BadFrame):
        read_int(value, 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"N", ""), (b"\x00", ""), (b"\x03abc", "abc"), (b"\x30\x03abc", "abc"), (b"S\x00\x03abc", "abc"),
        (b"R\x00\x01a\x02bc", "abc"), (b"\x01\xc3\xa4", "ä"), (b"\x02\xed\xa0\xbd\xed\xb8\x80", "\U0001f600"),
        (b"\x01\xf0\x9f\x98\x80", "\U0001f600"), (b"R\x00\x01\xed\xa0\xbd\x01\xed\xb8\x80", "\U0001f600"),
    ],
)  # fmt: skip
def test_strings(value: bytes, text: str) -> None:
    assert is_string(value, 0) is (value != b"N")
    assert read_string(b"T" + value + b"T", 1) == (text.encode(), 1 + len(value))
    assert read_strings(value * 3 + b"T", 0, 3) == ([text.encode()] * 3, 3 * len(value))


@pytest.mark.parametrize(
    "value", [b"", b"\x02a", b"\x91", b"T", b"\x30", b"\x30\x02a", b"S\x00", b"\x20", b"\x02\xc3\xa4"]
)
def test_what_is_no_string(value: bytes) -> None:
    for read in (lambda: read_string(value, 0), lambda: read_strings(value, 0, 1)):
        with pytest.raises(BadFrame):
            read()


def test_what_is_no_utf8_is_no_string() -> None:
    with pytest.raises(BadFrame, match="hessian_bad_utf8"):
        read_string(b"\x02\xc3a\x80", 0)


def test_what_has_too_many_chunks_is_no_string() -> None:
    with pytest.raises(BadFrame, match="hessian_string_too_long"):
        read_string(b"R\x00\x01a" * (MAX_CHUNKS + 1) + b"\x00", 0)


def test_half_of_a_pair_stays() -> None:
    half = b"\x02a\xed\xa0\xbd"
    assert read_string(half, 0) == (half[1:], len(half))
    assert write_string(half[1:]) == half


@given(st.text(max_size=60) | st.text(st.sampled_from("aä中\U0001f600"), min_size=900, max_size=1200))
def test_what_is_written_is_read(text: str) -> None:
    value = write_string(text.encode())
    assert read_string(value + b"Z", 0) == (text.encode(), len(value))
    assert skip(value + b"Z", 0, 1, Body()) == len(value)


@pytest.mark.parametrize("character", ["a", "ä", "中", "\U0001f600"])
@pytest.mark.parametrize("units", [31, 32, 1023, 1024, 0x8000, 0x8001, 200_000])
def test_long_strings_are_written_as_java_does(character: str, units: int) -> None:
    text = character * (units // (2 if character > "\uffff" else 1))
    value = write_string(text.encode())
    assert read_string(value, 0) == (text.encode(), len(value))
    length = units if character <= "\uffff" else units // 2 * 2
    tag = 0 if length < 32 else 0x30 if length < 1024 else 0x52 if length > 0x8000 else 0x53
    assert value[0] & 0xFC == tag & 0xFC or value[0] < 32 > length


def test_text_that_is_none_is_written_all_the_same() -> None:
    assert read_string(write_string(b"a\xffb"), 0)[0] == "a\ufffdb".encode()


@given(st.binary(max_size=100), st.integers(0, 5))
def test_any_bytes_are_values_or_a_bad_frame(data: bytes, count: int) -> None:
    try:
        assert skip(data, 0, count, Body()) <= len(data)
    except BadFrame:
        pass


def encoded(value: object) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"T" if value else b"F"
        case int():
            return b"I" + value.to_bytes(4, "big", signed=True)
        case bytes():
            return b"B" + len(value).to_bytes(2, "big") + value
        case str():
            return write_string(value.encode())
        case list():
            return b"X" + encoded(len(value)) + b"".join(map(encoded, value))
        case tuple():
            return b"W" + b"".join(map(encoded, value)) + b"Z"
        case dict():
            return b"H" + b"".join(encoded(key) + encoded(item) for key, item in value.items()) + b"Z"
    raise TypeError(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.binary(max_size=40) | st.text(max_size=40),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.lists(inner, max_size=5).map(tuple)
            | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        ),
        max_leaves=30,
    )
)  # fmt: skip
def test_whatever_is_written_is_passed_over(value: object) -> None:
    data = encoded(value)
    assert skip(data + b"ZZ", 0, 1, Body()) == len(data)
