"""A teacher that was asked once: what it said of each image, by the names of their files, and nothing that can be asked again."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy
import torch
from torch import Tensor, nn

from stages.support.errors import UserError

FORMS = {r"answers": "answers (given as `answers: FILE.csv`)"}
FILE = "file"
LEAST = 1e-4  # what is left for all classes that an answer does not name, where it names no shares


class Answers(nn.Module):
    """`logits` (n, K) of n images, whose files' `names` are joined by zero bytes.

    A file is known by its path, or by an end of it: `cat/1.png` stands for `data/raw/cat/1.png`.
    """

    asked = differentiable = False
    names: Tensor
    logits: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("names", torch.empty(0, dtype=torch.uint8))
        self.register_buffer("logits", torch.empty(0, 0))
        self.anchor = nn.Parameter(torch.empty(0))  # so that it lies on a device

    def read(self, path: Path, classes: Sequence[str]) -> None:
        """Take a table (.csv) or arrays (.npz); raises UserError that names what of the file is wrong."""
        try:
            names, logits = _arrays(path, classes) if path.suffix == ".npz" else _table(path, classes)
        except (OSError, ValueError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path} cannot be read as answers ({str(error).splitlines()[0]})") from None
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise UserError(f"{path} has two answers for '{twice[0]}'")
        self.names = torch.frombuffer(bytearray("\0".join(names).encode()), dtype=torch.uint8)
        self.logits = logits

    def of(self, files: Sequence[str]) -> Tensor:
        """The logits (m, K) of these files; NaN for those of which nothing is known."""
        known = bytes(self.names.cpu().numpy()).decode().split("\0")
        places = {name: place for place, name in enumerate(known)}
        found = [next((places[end] for end in _ends(file) if end in places), -1) for file in files]
        logits = torch.full((len(files), self.logits.shape[1]), float("nan"))
        rows = torch.tensor(found)
        logits[rows >= 0] = self.logits.cpu()[rows[rows >= 0]]
        return logits

    def forward(self, x: Tensor) -> Tensor:
        raise UserError("the teacher was asked once, and cannot be asked again: its answers are all that there is")

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        self.names, self.logits = state_dict[f"{prefix}names"].clone(), state_dict[f"{prefix}logits"].clone()
        super()._load_from_state_dict(state_dict, prefix, *args)


def stored(net: nn.Module) -> Answers | None:
    """The answers in a network that has no more than these."""
    return next((module for module in net.modules() if isinstance(module, Answers)), None)


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """Answers that are not read yet."""
    return Answers()


def _ends(path: str) -> list[str]:
    """A path and its ends, the longest first: a/b/c.png, b/c.png, c.png."""
    parts = PurePosixPath(path).parts
    return ["/".join(parts[place:]) for place in range(len(parts))]


def _arrays(path: Path, classes: Sequence[str]) -> tuple[list[str], Tensor]:
    with numpy.load(path, allow_pickle=False) as given:
        arrays = {name: given[name] for name in given.files}
    kinds = [name for name in ("logits", "probabilities", "labels") if name in arrays]
    if FILE + "s" not in arrays or len(kinds) != 1:
        raise ValueError("it wants `files`, and one of `logits`, `probabilities` and `labels`")
    values = torch.from_numpy(arrays[kinds[0]])
    if len(values) != len(arrays["files"]):
        raise ValueError(f"it has {len(arrays['files'])} files and {len(values)} answers")
    if kinds[0] == "labels":
        return [str(name) for name in arrays["files"]], _of_labels([str(int(value)) for value in values], classes)
    return [str(name) for name in arrays["files"]], _of_numbers(values.float(), classes)


def _table(path: Path, classes: Sequence[str]) -> tuple[list[str], Tensor]:
    """`file` and one column a class, by their names or in their order; or `file` and labels, each with its share, best first."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        title, *rows = [row for row in csv.reader(file) if row]
    if not title or title[0] != FILE:
        raise ValueError(f"its first column is '{title[0] if title else ''}', not '{FILE}'")
    if short := next((number for number, row in enumerate(rows, 2) if len(row) != len(title)), None):
        raise ValueError(f"row {short} has another number of columns than the first")
    names, body = [row[0] for row in rows], [row[1:] for row in rows]
    if len(title) == 2:
        return names, _of_labels([row[0] for row in body], classes)
    columns = title[1:]
    if sorted(columns) == sorted(classes):
        order = [columns.index(name) for name in classes]
        return names, _of_numbers(torch.tensor([[float(row[place]) for place in order] for row in body]), classes)
    if all(re.fullmatch(r"(logit|probability|p)?_?\d+", name) for name in columns) and len(columns) == len(classes):
        return names, _of_numbers(torch.tensor([[float(value) for value in row] for row in body]), classes)
    if len(columns) % 2 == 0:
        return names, _of_best(body, classes)
    raise ValueError(f"its columns are {', '.join(columns[:4])}, ...; they are to be the classes, or label and share in turn")


def _of_numbers(values: Tensor, classes: Sequence[str]) -> Tensor:
    """Logits as they are; of probabilities the logarithms."""
    if values.dim() != 2 or values.shape[1] != len(classes):
        raise ValueError(f"it has answers of {tuple(values.shape[1:])} numbers, and there are {len(classes)} classes")
    if not values.isfinite().all():
        raise ValueError("it has numbers that are not finite")
    whole = values.min() >= 0 and (values.double().sum(1) - 1).abs().max() < 1e-3
    return values.clamp(min=1e-12).log() if whole else values


def _of_labels(labels: Sequence[str], classes: Sequence[str]) -> Tensor:
    shares = torch.full((len(labels), len(classes)), LEAST / len(classes))
    shares[range(len(labels)), [_class(label, classes) for label in labels]] += 1 - LEAST
    return shares.log()


def _of_best(rows: Sequence[Sequence[str]], classes: Sequence[str]) -> Tensor:
    """Of the best few classes with their shares: the others have what is left, each as much."""
    shares = torch.zeros(len(rows), len(classes))
    for place, row in enumerate(rows):
        for label, share in zip(row[::2], row[1::2], strict=True):
            shares[place, _class(label, classes)] = float(share)
    if shares.min() < 0 or shares.sum(1).max() > 1 + 1e-3:
        raise ValueError("its shares are no probabilities")
    named = (shares > 0).double()
    left = (1 - shares.sum(1, keepdim=True)).clamp(min=LEAST) / (len(classes) - named.sum(1, keepdim=True)).clamp(min=1)
    return torch.where(shares > 0, shares.double(), left).float().log()


def _class(label: str, classes: Sequence[str]) -> int:
    """The number of a class by its name, or by its number where that is no name."""
    if label in classes:
        return list(classes).index(label)
    if label.isdecimal() and int(label) < len(classes):
        return int(label)
    raise ValueError(f"'{label}' is no class: {', '.join(classes[:6])}")
