"""What rows are, in words; apart from the methods, whose identity does not depend on it."""

import importlib

from stages.methods import FOLDER
from stages.reporting.tables import worded
from stages.settings.params import Params


def described(params: Params, row: str) -> str:
    """What a row is, in a line: its method's own words, or how a variant differs from its method."""
    method = params.method_of(row)
    if method != row:
        changed = ", ".join(f"{key} {worded(value)}" for key, value in params.rows[row].items() if key != "of")
        return f"`{method}` with {changed}"
    return (importlib.import_module(f"{FOLDER}.{method}").__doc__ or "").strip().splitlines()[0]
