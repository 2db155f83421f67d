"""Looking at the fields of a message's head, and changing them.

Apart from `mosn_xds.data.codec.head` because these are loops, which gain from being compiled, and heads are structs, which
cannot be.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mosn_xds.data.codec.head import Fields


def value_in(fields: "Fields", name: bytes) -> bytes | None:
    """The value of a field, of repeated ones joined by ``,`` as Envoy joins them for matching; None when absent."""
    found: bytes | None = None
    for field, value in fields:
        if field == name:
            found = value if found is None else found + b"," + value
    return found


def put_in(fields: "Fields", name: bytes, value: bytes) -> None:
    """Make this the only field of that name: in the place of the first one, else at the end."""
    first = -1
    more = False
    for at, (field, _) in enumerate(fields):
        if field == name:
            if first < 0:
                first = at
            else:
                more = True
    if first < 0:
        fields.append((name, value))
        return
    fields[first] = (name, value)
    if more:
        fields[first + 1 :] = [field for field in fields[first + 1 :] if field[0] != name]


def values_in(fields: "Fields", name: bytes) -> list[bytes]:
    """Each value of a field on its own, in wire order."""
    return [value for field, value in fields if field == name]


def take_out(fields: "Fields", name: bytes) -> bool:
    """Take out all fields of that name; says whether there was one."""
    for field, _ in fields:
        if field == name:
            fields[:] = [kept for kept in fields if kept[0] != name]
            return True
    return False
