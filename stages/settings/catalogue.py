"""tasks/: the catalogue of tasks, a family a file, and variants.yaml, the rows that are variants of methods."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from stages.settings.yaml import Loader
from stages.support.errors import UserError
from stages.support.plugins import alike, nearest

FOLDER = Path("tasks")
VARIANTS = "variants.yaml"
MAKES = ("exported", "torchscript", "onnx", "answers")  # files that are a teacher, or its answers, by themselves
CHOOSING = ("source", "keep", "network")  # with another of these, a section's other keys mean something else
EITHER = (("train", "weights"), ("weights", "train"))  # a teacher is trained or imported


@dataclass(frozen=True)
class Layer:
    """A part of what a section says: `content`, as it stands in `file` under the dotted `key`.

    `names` says which of its own keys have another name in the file.
    """

    content: Any
    file: Path
    key: str
    names: dict[str, str] = field(default_factory=dict)

    def of(self, *keys: str) -> "Layer":
        """What stands below it under `keys`; an empty section where there is nothing."""
        content = self.content
        for key in keys:
            content = content.get(key) if isinstance(content, dict) else None
        return Layer({} if content is None else content, self.file, ".".join([*filter(None, [self.key]), *keys]))

    def has(self, path: Sequence[str]) -> bool:
        """Whether something stands below it at `path`."""
        content = self.content
        for key in path:
            if isinstance(content, list) and key.isdecimal() and int(key) < len(content):
                content = content[int(key)]
            elif isinstance(content, dict) and key in content:
                content = content[key]
            else:
                return False
        return True


def place(layers: Sequence[Layer], path: Sequence[str]) -> str:
    """`FILE: KEY` of the last layer that says the longest part of `path`."""
    for length in range(len(path), -1, -1):
        for layer in reversed(layers):
            if layer.has(path[:length]):
                own = [layer.names.get(key, key) for key in path[:1]]
                return f"{layer.file}: {'.'.join([*filter(None, [layer.key]), *own, *path[1:]])}"
    return f"{layers[-1].file}: {'.'.join(path)}"


def patched(base: Any, patch: Any) -> Any:
    """`base` with the changes of `patch`: a JSON merge patch (RFC 7396), in which null deletes.

    Two rules more: a section whose source, keep or network changes is replaced whole, a teacher also where it becomes a file of
    another make; `train` and `weights` exclude each other.
    """
    if not isinstance(patch, dict):
        return patch
    if not isinstance(base, dict) or _another(base, patch):
        base = {}
    dropped = {other for key, other in EITHER if patch.get(key) is not None}
    merged = {key: value for key, value in base.items() if key not in dropped}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = patched(merged.get(key), value)
    return merged


def _another(base: dict[str, Any], patch: dict[str, Any]) -> bool:
    """Whether a patch makes of a section something else, so that what else stands there means nothing any more."""
    chosen = any(key in patch and key in base and patch[key] != base[key] for key in CHOOSING)
    other_make = any(patch.get(make) is not None and make not in base for make in MAKES)
    return chosen or other_make or ("network" in patch and any(make in base for make in MAKES))


class Catalogue:
    """The files of a folder, read once. One that cannot be read is no error until something is asked for that may stand in it."""

    def __init__(self, folder: Path = FOLDER):
        self.folder = folder
        self.broken: dict[Path, str] = {}
        self.tasks: dict[str, Layer] = {}
        self._twice: dict[str, UserError] = {}
        for file in sorted(folder.glob("*.yaml")):
            if file.name == VARIANTS:
                continue
            for name, content in self._read(file).items():
                if name in self.tasks:
                    first = self.tasks[name].file
                    self._twice[name] = UserError(f"{file}: {name}: {first} has a task of this name too; rename one of them")
                self.tasks[name] = Layer(content, file, name)

    @cached_property
    def variants(self) -> dict[str, Layer]:
        """The rows that are variants of methods, by name; raises UserError where their file cannot be read."""
        file = self.folder / VARIANTS
        found = self._read(file) if file.exists() else {}
        if file in self.broken:
            raise UserError(self.broken[file])
        return {name: Layer(content, file, name) for name, content in found.items()}

    def layers(self, name: str, where: str = "") -> list[Layer]:
        """What the task called `name` says, that which it is `of` first.

        Raises UserError that begins with `where` for an unknown name, one that stands twice, and one that is of itself.
        """
        found: list[Layer] = []
        seen: list[str] = []
        while True:
            if name in self._twice:
                raise self._twice[name]
            if name not in self.tasks:
                unread = "".join(f" {reason}." for reason in self.broken.values())
                hint = f". Tasks stand in {self.folder}/*.yaml; a copy that git makes has those it knows"
                hint = "" if alike(name, self.tasks) else hint
                raise UserError(f"{where}unknown task '{name}'; {nearest(name, self.tasks)}{hint}{unread}")
            layer, seen = self.tasks[name], [*seen, name]
            if not isinstance(layer.content, dict):
                raise UserError(f"{layer.file}: {name}: a task is a section with a line for each of its keys")
            found.insert(0, Layer({key: value for key, value in layer.content.items() if key != "of"}, layer.file, layer.key))
            if "of" not in layer.content:
                return found
            where, name = f"{layer.file}: {name}.of: ", str(layer.content["of"])
            if name in seen:
                raise UserError(f"{where}'{name}' is of itself, in the end; say there what it is")

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            content = yaml.load(file.read_text(encoding="utf-8"), Loader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            self.broken[file] = f"{file} is not valid YAML: {' '.join(str(error).split())}"
            return {}
        if content is not None and not isinstance(content, dict):
            self.broken[file] = f"{file} is no map of sections by name"
            return {}
        return {str(name): section for name, section in (content or {}).items()}
