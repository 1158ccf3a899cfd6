"""A teacher that was asked once: what it said of each image, by the names of their files, and nothing that can be asked again."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy
import torch
from torch import Tensor, nn

from stages.support.errors import UserError

FORMS = {r"answers": "answers (given as `answers: FILE.csv`)"}
FILE = "file"
LOGITS, PROBABILITIES, LABELS = "logits", "probabilities", "labels"
ROUNDED = 0.05  # how far rounded probabilities may be from a sum of 1
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

    def read(self, path: Path, classes: Sequence[str], gives: str | None = None) -> None:
        """Take a table (.csv) or arrays (.npz), which hold logits or what `gives` says.

        Raises UserError that names what of the file is wrong.
        """
        try:
            given = _arrays(path) if path.suffix == ".npz" else _table(path, classes)
            logits = given.labels(classes) if given.said == LABELS else _of_numbers(given.numbers, classes, gives or given.said)
        except (OSError, ValueError, TypeError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path} cannot be read as answers ({str(error).splitlines()[0]})") from None
        names = [name.replace("\\", "/").removeprefix("./") for name in given.names]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise UserError(f"{path} has two answers for '{twice[0]}'")
        self.names = torch.frombuffer(bytearray("\0".join(names).encode()), dtype=torch.uint8)
        self.logits = logits

    @property
    def first(self) -> str:
        """The name of the first image, for messages."""
        return bytes(self.names.cpu().numpy()).decode().partition("\0")[0]

    def of(self, files: Sequence[str], parts: int = 1) -> Tensor:
        """The logits (m, K) of these files, NaN for those of which nothing is known; a name has so many `parts` at least.

        Raises UserError where one answer is to two of them.
        """
        known = bytes(self.names.cpu().numpy()).decode().split("\0")
        places = {name: place for place, name in enumerate(known) if name.count("/") + 1 >= parts}
        found = [next((places[end] for end in _ends(file) if end in places), -1) for file in files]
        asked: dict[int, str] = {}
        for place, file in zip(found, files, strict=True):
            if place >= 0 and asked.setdefault(place, file) != file:
                raise UserError(
                    f"the answer to '{known[place]}' may be to {asked[place]} or to {file}; write more of the path in the answers"
                )
        logits = torch.full((len(files), self.logits.shape[1]), float("nan"))
        rows = torch.tensor(found, dtype=torch.int64)
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


class _Given(NamedTuple):
    """What a file says of images by their names: `numbers` (n, K) that are what is `said`, or a few `labels` with shares each."""

    names: list[str]
    said: str | None = None
    numbers: Tensor = torch.empty(0, 0)
    best: Sequence[Sequence[str]] = ()

    def labels(self, classes: Sequence[str]) -> Tensor:
        """The logits of labels: one, or the best few, each with its share."""
        if any(len(row) > 1 for row in self.best):
            return _of_best(self.best, classes)
        shares = torch.full((len(self.best), len(classes)), LEAST / len(classes))
        shares[range(len(self.best)), [_class(label, classes) for (label,) in self.best]] += 1 - LEAST
        return shares.log()


def _arrays(path: Path) -> _Given:
    with numpy.load(path, allow_pickle=False) as given:
        arrays = {name: given[name] for name in given.files}
    kinds = [name for name in (LOGITS, PROBABILITIES, LABELS) if name in arrays]
    if "files" not in arrays or len(kinds) != 1:
        raise ValueError("it wants `files`, and one of `logits`, `probabilities` and `labels`")
    said, values = kinds[0], arrays[kinds[0]]
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in arrays["files"].ravel().tolist()]
    if len(values.shape) == 0 or len(values) != len(names):
        raise ValueError(f"it has {len(names)} files and {len(values) if values.shape else 1} answers")
    if said == LABELS:
        return _Given(names, LABELS, best=[[str(value)] for value in values.ravel().tolist()])
    return _Given(names, said, torch.from_numpy(values).float())


def _table(path: Path, classes: Sequence[str]) -> _Given:
    """`file` and one column a class, by their names or numbers; or `file` and labels, each with its share, best first."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        title, *rows = [row for row in csv.reader(file) if row] or [[]]
    if not rows:
        raise ValueError("it has no row of answers")
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(title) == 1 and mark in title[0]:
            raise ValueError(f"its columns are separated by {name}, not by commas")
    if _plain(title[0]) != FILE:
        raise ValueError(f"its first column is '{title[0]}', not '{FILE}'")
    if short := next((number for number, row in enumerate(rows, 2) if len(row) != len(title)), None):
        raise ValueError(f"row {short} has another number of columns than the first")
    names, body, columns = [row[0] for row in rows], [row[1:] for row in rows], [_plain(name) for name in title[1:]]
    order, wanted = list[int](), [_plain(name) for name in classes]
    if sorted(columns) == sorted(wanted):
        order = [columns.index(name) for name in wanted]
    numbers = [re.fullmatch(r"[a-z_ ]*(\d+)", name) for name in columns]
    places = [int(found[1]) for found in numbers if found]
    if not order and len(columns) == len(classes) == len(set(places)):  # label1, p1, label2, p2 has each number twice
        if sorted(places) not in (list(range(len(places))), list(range(1, len(places) + 1))):
            raise ValueError(f"its columns are numbered {places[:6]}, ..., not from 0 on")
        order = sorted(range(len(places)), key=places.__getitem__)
    if order:
        return _Given(names, None, torch.tensor([[float(row[place]) for place in order] for row in body]))
    if len(columns) == 1 or (len(columns) % 2 == 0 and not set(columns) & set(wanted)):
        return _Given(names, LABELS, best=[[cell.strip() for cell in row] for row in body])
    raise ValueError(f"its columns are {', '.join(title[1:5])}, ...; they are to be the classes, or label and share in turn")


def _of_numbers(values: Tensor, classes: Sequence[str], said: str | None) -> Tensor:
    """Logits as they are; of probabilities, which may be rounded, the logarithms."""
    if values.dim() != 2 or values.shape[1] != len(classes):
        raise ValueError(f"it has answers of {tuple(values.shape[1:])} numbers, and there are {len(classes)} classes")
    if not values.isfinite().all():
        raise ValueError("it has numbers that are not finite")
    sums = values.double().sum(1, keepdim=True)
    near = bool(((sums - 1).abs() <= ROUNDED).all() and (values >= 0).all())
    if said == PROBABILITIES and not near:
        raise ValueError("its probabilities do not sum to 1")
    if said is None and not near and values.min() >= 0 and values.max() <= 1:
        raise ValueError("its numbers lie between 0 and 1 and do not sum to 1; say `gives: logits` if they are logits")
    return (values / sums).clamp(min=1e-12).log().float() if near and said != LOGITS else values


def _of_best(rows: Sequence[Sequence[str]], classes: Sequence[str]) -> Tensor:
    """Of the best few classes with their shares: the others have what is left, each as much."""
    shares = torch.zeros(len(rows), len(classes), dtype=torch.float64)
    for place, row in enumerate(rows):
        for label, share in zip(row[::2], row[1::2], strict=True):
            shares[place, _class(label, classes)] = float(share)
    if shares.min() < 0 or shares.sum(1).max() > 1 + ROUNDED:
        raise ValueError("its shares are no probabilities")
    named = (shares > 0).double()
    left = (1 - shares.sum(1, keepdim=True)).clamp(min=LEAST) / (len(classes) - named.sum(1, keepdim=True)).clamp(min=1)
    return torch.where(shares > 0, shares, left).float().log()


def _class(label: str, classes: Sequence[str]) -> int:
    """The number of a class by its name, or by its number where that is no name."""
    if label in classes:
        return list(classes).index(label)
    if label.isdecimal() and int(label) < len(classes):
        return int(label)
    raise ValueError(f"'{label}' is no class: {', '.join(classes[:6])}")


def _plain(name: str) -> str:
    return name.strip().lower()
