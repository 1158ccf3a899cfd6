"""Plug-ins: one file in one folder is all it takes to add a method, a network, a source, a rule or a kind."""

import difflib
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.support.errors import UserError

MOST = 20  # names in a hint
OWN = ":"  # in the name of a network that is the user's own code


def plugin(folder: str, name: str, attribute: str, what: str, where: str = "") -> Any:
    """`attribute` of the module `name` in the package `folder`.

    Raises UserError that begins with `where` and has the nearest name, where there is none; or for a module that lacks it.
    """
    module = f"{folder}.{name}"
    if name.isidentifier() and importlib.util.find_spec(module):
        found = getattr(importlib.import_module(module), attribute, None)
        if found is None:
            raise UserError(f"{where}{module.replace('.', '/')} defines no class `{attribute}`; every {what} there is called so")
        return found
    raise UserError(f"{where}unknown {what} '{name}'; {nearest(name, plugins(folder))}")


def plugins(folder: str) -> list[str]:
    """The names of the modules in the package `folder`; those that begin with "_" only help the others."""
    found = pkgutil.iter_modules(importlib.import_module(folder).__path__)
    return [module.name for module in found if not module.name.startswith("_")]


def leading(name: str) -> str:
    """The file of a longer name: its leading letters, `wrn` for wrn40_2, `torchvision` for torchvision.resnet50.

    `own` for package.module:function, which is the user's own code.
    """
    return "own" if OWN in name else (re.match(r"[a-z]+", name) or [name])[0]


def own_code(name: str) -> Path | None:
    """The file of package.module:function; None for another name, or where there is no such module."""
    try:
        found = importlib.util.find_spec(name.partition(OWN)[0]) if OWN in name else None
    except ModuleNotFoundError:
        return None
    return Path(found.origin) if found and found.origin else None


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for someone who wrote `name`: the nearest of the `known` names, or all of them."""
    known = list(known)
    near = alike(name, known)
    more = f", ... ({len(known)} in all)" if len(known) > MOST else ""
    return f"did you mean '{near}'?" if near else f"known: {', '.join(known[:MOST]) or 'none'}{more}"


def alike(name: str, known: Iterable[str]) -> str | None:
    """The nearest of the `known` names, if any is near."""
    return next(iter(difflib.get_close_matches(name, known, 1)), None)
