"""Packages of optional groups, which only some tasks want."""

import importlib
from typing import Any

from stages.support.errors import UserError


def optional(package: str, group: str) -> Any:
    """The module `package`; raises UserError that names its `group` where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(f"this task wants the package {package}; run `uv sync --group {group}`") from None
