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
