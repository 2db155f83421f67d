"""Wheels hold the data half compiled by mypyc; everything else about the distribution is in setup.cfg.

The sources of the forwarding engine are typed so strictly that mypyc can translate them to C as they stand. A wheel, and so
``pip install .``, has them as extension modules beside their sources. An editable install (`make setup`) has not: it is the
form for development, and an extension module next to a source that has changed since would run in its place.

``MOSN_XDS_COMPILE=0`` makes a wheel without them. So does, with a word about it, a machine without a C compiler.
Modules with what mypyc does not translate stay interpreted: of a msgspec struct the options of its class line would be lost
(``frozen``, ``gc=False``), compiled classes have no place for a cached property, compiled protocols cannot be asked at run time.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

COMPILED = ("mosn_xds/data/**/*.py", "mosn_xds/base/cells.py", "mosn_xds/base/clock.py")
NOT_COMPILED = ("msgspec.Struct", "cached_property", "@runtime_checkable")
ONCE_PER_HANDSHAKE = "mosn_xds/data/tls/"
OPTIONS = ("--config-file=", "--ignore-missing-imports")


def sources() -> list[str]:
    """The modules that are compiled."""
    root = Path(__file__).parent
    found = [path for pattern in COMPILED for path in sorted(root.glob(pattern)) if path.name != "__init__.py"]
    names = [
        str(path.relative_to(root)) for path in found if not any(word in path.read_text() for word in NOT_COMPILED)
    ]
    return [name for name in names if not name.startswith(ONCE_PER_HANDSHAKE)]


def why_not() -> str | None:
    """What keeps this build from compiling; None if nothing does."""
    if os.environ.get("MOSN_XDS_COMPILE") == "0":
        return "MOSN_XDS_COMPILE is 0"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "there are no headers of Python (Debian: python3-dev)"
    return None


def extensions() -> list[Extension]:
    """The data half, if this builds a wheel."""
    if "bdist_wheel" not in sys.argv:
        return []
    reason = why_not()
    if reason is not None:
        print(f"mosn-xds: the data half stays interpreted, {reason}", file=sys.stderr)
        return []
    from mypyc.build import mypycify  # noqa: PLC0415

    # More than -O1 takes the compiler far longer; what is called here is mostly the interpreter's own C.
    return mypycify([*OPTIONS, *sources()], opt_level="1", debug_level="0", multi_file=True)


setup(ext_modules=extensions())
