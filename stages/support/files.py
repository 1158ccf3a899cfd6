"""Writing files so that a crash leaves either the old file or the new one, never half of one."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from stages.support.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it over `path` when the block ends well, remove it otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def listed(names: list[str] | str) -> list[str]:
    """The names in the file called `names`; or `names`, each that ends in `.txt` replaced by those in that file.

    Raises UserError for a missing file.
    """
    try:
        if isinstance(names, str):
            return _lines(names)
        return [name for given in names for name in (_lines(given) if given.endswith(".txt") else [given])]
    except FileNotFoundError as error:
        raise UserError(f"the list of classes {error.filename} is missing; write one class's name a line") from None


def _lines(path: str) -> list[str]:
    return [line.strip() for line in Path(path).read_text().splitlines() if line.strip()]


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write one safetensors file, atomically; raises OSError where it cannot be written."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(whole, temporary, metadata)
        except SafetensorError as error:
            raise OSError(None, str(error), str(path)) from None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises OSError where the file is missing, UserError where it is none."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is no valid JSON ({error}); restore it from git, or remove it and run again") from None
    return content
