"""Which form of the forwarding engine is installed: as it is written, or compiled to extension modules (see setup.py).

Both behave alike; what differs is the CPU that a request costs. Nothing decides by it, it is only told.
"""

from enum import Enum

from mosn_xds.base import cells


class Form(Enum):
    INTERPRETED = "interpreted"
    COMPILED = "compiled"


def installed_form() -> Form:
    """The form of this installation, found by one module that is always compiled with the others."""
    source = cells.__file__ or ""
    return Form.INTERPRETED if source.endswith((".py", ".pyc")) else Form.COMPILED
