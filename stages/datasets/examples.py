"""The form every data set takes: named columns, one file a split; or a list of image files that are read when asked for."""

import math
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from stages.datasets.images import to_pixels
from stages.datasets.texts import Vocabulary
from stages.support.errors import UserError
from stages.support.files import read_tensors, save_tensors
from stages.support.plugins import nearest

PATIENCE = 600  # seconds that a batch may take to be read
AHEAD = 3  # batches a worker has in shared memory at a time, and one more to spare
SHARED = "/dev/shm"
PACK_GB = 2.0  # of pixels, up to which a set of images is packed into one file, by default
ODD = "surrogateescape"  # names of files that are not UTF-8
UNKNOWN = -1  # the label of an example whose class is not known
INPUT, LABEL, INDEX, LENGTH = "input", "label", "index", "length"
LOGITS, PREDICTED, CONFIDENCE, WEIGHT = "logits", "predicted", "confidence", "weight"  # what `curate` adds


@dataclass(frozen=True)
class Examples:
    """n examples of one split.

    `columns` are tensors (n, ...): `input`, uint8 (n, C, H, W) for images or whole numbers (n, L) for sequences; `label` int64,
    (n,) or (n, H, W), where there are any, UNKNOWN for some; `index` int64 (n,), the row in the source; others as they come. Of
    images that are files, `files` names these; a set that stays in its folder has no column `input` and is read from them. One
    that was not turned into tokens yet has n `texts`.
    `shape` is that of one input; sequences of tokens say of which `vocabulary`.
    """

    columns: dict[str, Tensor]
    classes: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None

    def __post_init__(self) -> None:
        if INPUT in self.columns:
            object.__setattr__(self, "shape", tuple(self.columns[INPUT].shape[1:]))

    def __len__(self) -> int:
        return len(self.columns[INDEX])

    @property
    def input(self) -> Tensor:
        """All inputs; raises KeyError for a set that stays in its folder."""
        return self.columns[INPUT]

    @property
    def label(self) -> Tensor:
        """The labels of all examples, (n,) or (n, H, W)."""
        return self.columns[LABEL]

    @property
    def index(self) -> Tensor:
        """The rows in the source."""
        return self.columns[INDEX]

    @property
    def packed(self) -> bool:
        """Whether the inputs are in memory."""
        return INPUT in self.columns

    def subset(self, rows: Tensor) -> "Examples":
        """The examples at `rows` (int64), in that order; itself where these are all."""
        if torch.equal(rows, torch.arange(len(self))):
            return self
        files, texts = (tuple(named[i] for i in rows.tolist()) if named else () for named in (self.files, self.texts))
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, columns=columns, files=files, texts=texts)

    def without(self, rows: Tensor) -> "Examples":
        """The other examples, in their order."""
        stay = torch.ones(len(self), dtype=torch.bool)
        stay[rows] = False
        return self.subset(stay.nonzero().flatten())

    def having(self, **columns: Tensor) -> "Examples":
        """The same examples with more columns, or others of the same name."""
        return replace(self, columns={**self.columns, **columns})

    def unlabelled(self) -> "Examples":
        """The same examples, nothing said of their classes."""
        return replace(self, columns={name: column for name, column in self.columns.items() if name != LABEL}, classes=())

    def of(self, classes: tuple[str, ...]) -> "Examples":
        """Those of `classes`, which have the numbers of that order; raises UserError for a class that there is not.

        What has no label is left out.
        """
        if missing := [name for name in classes if name not in self.classes]:
            raise UserError(f"there is no class '{missing[0]}' among the labelled images; {nearest(missing[0], self.classes)}")
        numbers = torch.full((len(self.classes),), UNKNOWN)
        numbers[[self.classes.index(name) for name in classes]] = torch.arange(len(classes))
        labels = torch.where(self.label == UNKNOWN, UNKNOWN, numbers[self.label])
        return replace(self.having(label=labels), classes=classes).subset((labels != UNKNOWN).nonzero().flatten())

    def inputs(self, batches: Iterable[Tensor], workers: int = min(4, os.cpu_count() or 1)) -> Iterator[Tensor]:
        """Yield the inputs (b, ...) at each int64 tensor of rows; files are decoded by worker processes ahead of time."""
        if self.packed:
            yield from (self.input[rows.to(self.input.device)] for rows in batches)
            return
        from torch.utils.data import DataLoader

        # A generator of its own: a loader draws from torch's default one when it begins, and a resumed run begins elsewhere.
        own, asked = torch.Generator(), iter(batches)
        first = next(asked, torch.empty(0, dtype=torch.int64))
        workers = _fitting(workers, len(first) * math.prod(self.shape))
        loader = DataLoader(
            _Files(self),
            batch_sampler=_Rows(chain([first] if len(first) else [], asked)),
            num_workers=workers,
            collate_fn=torch.stack,
            generator=own,
            timeout=PATIENCE if workers else 0,
        )
        try:
            yield from loader
        except RuntimeError as error:  # a worker that died, or that says nothing
            if "worker" not in str(error):
                raise
            raise UserError(
                f"the processes that read {self.files[0]} and others were ended, or stand still ({str(error).splitlines()[0]}); "
                "in a container allow more shared memory (--shm-size=1g), or raise `pack_gb` so that images are read once"
            ) from None

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield all inputs in order, `size` at a time (the last ones may be fewer)."""
        return self.inputs(torch.arange(len(self)).split(size))

    def all_inputs(self) -> Tensor:
        """All inputs in one tensor; read from their files where they are not in memory."""
        return torch.cat(list(self.batches(256)))

    def save(self, path: Path) -> None:
        """Write one safetensors file, atomically."""
        tensors = dict(self.columns)
        if self.files:
            names = "".join(f"{name}\0" for name in self.files).encode(errors=ODD)
            tensors["files"] = torch.frombuffer(bytearray(names), dtype=torch.uint8)
        info: dict[str, Any] = {"classes": self.classes, "shape": self.shape}
        if self.vocabulary:
            info["vocabulary"] = asdict(self.vocabulary)
        save_tensors(path, tensors, info)

    @classmethod
    def load(cls, path: Path) -> "Examples":
        """Read what `save` wrote; raises UserError where the file is missing."""
        columns, info = read_tensors(path)
        files = columns.pop("files", None)
        names = tuple(bytes(files.numpy()).decode(errors=ODD).split("\0")[:-1]) if files is not None else ()
        vocabulary = Vocabulary.restored(info["vocabulary"]) if "vocabulary" in info else None
        return cls(columns, tuple(info["classes"]), tuple(info["shape"]), names, vocabulary=vocabulary)


def pack(inputs: Tensor, labels: Tensor | None = None, classes: tuple[str, ...] = ()) -> Examples:
    """Examples of inputs (n, ...) in the order of their source, with labels where there are any."""
    columns = {INPUT: inputs, INDEX: torch.arange(len(inputs))}
    return Examples(columns if labels is None else {**columns, LABEL: labels}, classes)


def written(texts: Iterable[str], labels: Tensor | None = None, classes: tuple[str, ...] = ()) -> Examples:
    """Examples of texts in the order of their source, with labels where there are any."""
    texts = tuple(texts)
    columns = {INDEX: torch.arange(len(texts))}
    return Examples(columns if labels is None else {**columns, LABEL: labels}, classes, texts=texts)


def joined(sets: list[Examples]) -> Examples:
    """One set after the other; the labels stay where all sets have the same classes. `index` counts on from set to set.

    Raises UserError where some sets are packed and some are read from their folders.
    """
    first = sets[0]
    if len({one.packed for one in sets}) > 1:
        raise UserError("a mixture is packed as a whole or not at all; raise `pack_gb` of its folders, or lower it to 0.001")
    if any(one.classes != first.classes or one.columns.keys() != first.columns.keys() for one in sets):
        sets = [one.unlabelled() for one in sets]
    starts = [0]
    for one in sets[:-1]:
        starts.append(starts[-1] + int(one.index.max()) + 1)
    sets = [one.having(index=one.index + start) for one, start in zip(sets, starts, strict=True)]
    columns = {name: torch.cat([one.columns[name] for one in sets]) for name in sets[0].columns}
    files, texts = (_chained([getattr(one, field) for one in sets], list(map(len, sets))) for field in ("files", "texts"))
    return Examples(columns, sets[0].classes, first.shape, files, texts)


def _chained(named: list[tuple[str, ...]], sizes: list[int]) -> tuple[str, ...]:
    """The names of sets of these sizes, one after the other: nothing for those of a set without, unless no set has any."""
    return tuple(name for names, size in zip(named, sizes, strict=True) for name in names or [""] * size) if any(named) else ()


def channel_statistics(images: Examples) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, (C,) each, of pixels scaled to [0, 1]."""
    total = torch.zeros(images.shape[0], dtype=torch.float64)
    squares, pixels = torch.zeros_like(total), 0
    for batch in images.batches(1024):
        values = batch.double() / 255
        total += values.sum((0, 2, 3)).cpu()
        squares += values.square().sum((0, 2, 3)).cpu()
        pixels += values[:, 0].numel()
    mean = total / pixels
    return mean.float(), (squares / pixels - mean**2).clamp(min=0).sqrt().float()


def _fitting(workers: int, batch: int) -> int:
    """How many workers have room in shared memory for their batches of so many bytes; none where there is none."""
    if not os.path.isdir(SHARED):
        return workers
    room = shutil.disk_usage(SHARED).free // max(1, AHEAD * batch)
    if room < workers:
        print(f"{SHARED} has room for the batches of {room} of {workers} processes that read images; more (--shm-size) is faster")
    return min(workers, room)


class _Files(torch.utils.data.Dataset):
    def __init__(self, images: Examples):
        self.images = images

    def __getitem__(self, row: int) -> Any:
        with Image.open(self.images.files[row]) as image:
            return to_pixels(image, self.images.shape)


class _Rows:
    """A batch sampler over an iterable of row tensors, which may be endless."""

    def __init__(self, batches: Iterable[Tensor]):
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.batches)
