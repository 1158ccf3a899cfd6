"""Networks by name: the leading letters name the file, `wrn` for wrn40_2, `torchvision` for torchvision.resnet50."""

import importlib
import re
from typing import Any

from torch import nn

from stages.support.errors import UserError
from stages.support.plugins import alike, leading, plugins

FOLDER = "stages.networks"


def build(name: str, classes: int, form: Any, model: dict[str, Any] | None = None) -> nn.Module:
    """The network called `name` with fresh weights: inputs (B, ...) -> logits (B, classes, ...).

    `form` is the shape of an input or, of an encoder of texts, what it knows of them (`Blueprint.text`); `model` is the
    configuration of its own of one that was imported.

    Raises UserError for an unknown name, or for one that its file cannot build.
    """
    file, match = find(name)
    if (texts := getattr(file, "TEXTS", False)) is not None and isinstance(form, dict) != texts:
        raise UserError(
            f"network '{name}' is for {'images' if isinstance(form, dict) else 'texts'}; take one for the task's kind"
        )
    try:
        net: nn.Module = file.build(match, classes, form, *([model] if model else []))
    except (TypeError, ValueError) as error:
        raise UserError(f"network '{name}': {error}") from None
    return net


def find(name: str, where: str = "") -> tuple[Any, re.Match[str]]:
    """The file that builds the network called `name`, and the match of its form.

    A file of networks has FORMS, regular expression -> how to write it, and `build` of a match. Raises UserError that begins with
    `where` for an unknown name.
    """
    if (module := leading(name)) in plugins(FOLDER):
        file = importlib.import_module(f"{FOLDER}.{module}")
        for pattern in getattr(file, "FORMS", ()):
            if match := re.fullmatch(pattern, name):
                return file, match
    near = alike(name, importlib.import_module(f"{FOLDER}.torchvision").names())
    hint = f"did you mean 'torchvision.{near}'? There" if near else "there"
    raise UserError(f"{where}network '{name}' is unknown; {hint} are {', '.join(_forms())}")


def _forms() -> list[str]:
    files = [importlib.import_module(f"{FOLDER}.{name}") for name in plugins(FOLDER)]
    return [form for file in files for form in getattr(file, "FORMS", {}).values()]
