"""What `mosn-xds validate` does with one file."""

from pathlib import Path
from typing import Any

from mosn_xds.base.errors import ConfigError


def check_bootstrap(path: Path) -> dict[str, Any]:
    """Load a bootstrap as the agent would; the result names errors, warnings and fields without effect."""
    from mosn_xds.control.bootstrap import load_bootstrap  # noqa: PLC0415

    result: dict[str, Any] = {"file": str(path), "ok": True, "error": "", "warnings": [], "unread": []}
    try:
        bootstrap = load_bootstrap(path, "")
    except ConfigError as error:
        result.update(ok=False, error=str(error))
        return result
    result["warnings"] = list(bootstrap.warnings)
    result["unread"] = list(bootstrap.unread)
    return result
