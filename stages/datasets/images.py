"""The form every data set takes: one uint8 array file a split, or a list of files that are read when asked for."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from torch import Tensor

from stages.errors import UserError
from stages.files import save_tensors

UNKNOWN = -1  # the label of an image whose class is not known


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 pixels as numbers in [0, 1] of torch's default type."""
    return pixels.to(torch.get_default_dtype()).div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8 pixels, rounded to the nearest."""
    return (images * 255).round().to(torch.uint8)


@dataclass(frozen=True)
class ImageSet:
    """n images of one split with their labels and their places in the source.

    `images` is uint8 (n, C, S, S), or None for a set that stays in its folder: then `files` are n paths. `labels` is int64
    (n,), UNKNOWN where there is none; `index` is int64 (n,), the row in the source. `classes` may be empty.
    """

    images: Tensor | None
    labels: Tensor
    index: Tensor
    classes: tuple[str, ...]
    channels: int
    size: int
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: Tensor) -> "ImageSet":
        """The images at `rows` (int64), in that order."""
        files = tuple(self.files[i] for i in rows.tolist()) if self.files else ()
        images = None if self.images is None else self.images[rows]
        return replace(self, images=images, labels=self.labels[rows], index=self.index[rows], files=files)

    def read(self, batches: Iterable[Tensor], workers: int = min(4, os.cpu_count() or 1)) -> Iterator[Tensor]:
        """Yield uint8 (b, C, S, S) for each int64 tensor of rows; files are decoded by worker processes ahead of time."""
        if self.images is not None:
            images = self.images
            yield from (images[rows.to(images.device)] for rows in batches)
            return
        from torch.utils.data import DataLoader

        yield from DataLoader(_Files(self), batch_sampler=_Rows(batches), num_workers=workers, collate_fn=torch.stack)

    def all_batches(self, batch: int) -> Iterator[Tensor]:
        """Yield all images in order, `batch` at a time (the last one may be smaller)."""
        return self.read(torch.arange(len(self)).split(batch))

    def save(self, path: Path) -> None:
        """Write one safetensors file, atomically."""
        tensors = {"labels": self.labels, "index": self.index}
        if self.images is None:
            tensors["files"] = torch.frombuffer(bytearray("\n".join(self.files).encode()), dtype=torch.uint8)
        else:
            tensors["images"] = self.images
        # One entry only: safetensors writes several in an order of its own, and the file's hash would change with every run.
        metadata = {"info": json.dumps({"classes": self.classes, "channels": self.channels, "size": self.size})}
        save_tensors(path, tensors, metadata)

    @classmethod
    def load(cls, path: Path) -> "ImageSet":
        """Read what `save` wrote; raises UserError where the file is missing."""
        if not path.exists():
            raise UserError(f"{path} is missing; `dvc repro` builds it")
        with safe_open(path, "pt") as file:
            info = json.loads(file.metadata()["info"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iteration protocol
        files = bytes(tensors["files"].numpy()).decode().split("\n") if "files" in tensors else []
        return cls(
            tensors.get("images"),
            tensors["labels"],
            tensors["index"],
            tuple(info["classes"]),
            info["channels"],
            info["size"],
            tuple(files),
        )


def joined(sets: list[ImageSet]) -> ImageSet:
    """One set after the other; the labels stay where all sets have the same classes. `index` counts on from set to set.

    Raises UserError where some sets are packed and some are read from their folders.
    """
    first = sets[0]
    if len({images.images is None for images in sets}) > 1:
        raise UserError("a mixture is packed as a whole or not at all; raise `pack_gb` of its folders, or lower it to 0.001")
    same = all(images.classes == first.classes for images in sets)
    starts = [0]
    for images in sets[:-1]:
        starts.append(starts[-1] + int(images.index.max()) + 1)
    return ImageSet(
        None if first.images is None else torch.cat([images.images for images in sets if images.images is not None]),
        torch.cat([images.labels if same else torch.full_like(images.labels, UNKNOWN) for images in sets]),
        torch.cat([images.index + start for images, start in zip(sets, starts, strict=True)]),
        first.classes if same else (),
        first.channels,
        first.size,
        tuple(file for images in sets for file in images.files),
    )


def to_pixels(image: Image.Image, channels: int, size: int) -> Tensor:
    """One PIL image -> uint8 (channels, size, size): grey or RGB, the largest centred square, resized with antialiasing."""
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(size, size, channels).permute(2, 0, 1)


def channel_statistics(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, (C,) each, of pixels scaled to [0, 1]."""
    total = torch.zeros(images.channels, dtype=torch.float64)
    squares, pixels = torch.zeros_like(total), 0
    for batch in images.all_batches(1024):
        values = batch.double() / 255
        total += values.sum((0, 2, 3)).cpu()
        squares += values.square().sum((0, 2, 3)).cpu()
        pixels += values[:, 0].numel()
    mean = total / pixels
    return mean.float(), (squares / pixels - mean**2).clamp(min=0).sqrt().float()


class _Files(torch.utils.data.Dataset):
    def __init__(self, images: ImageSet):
        self.images = images

    def __getitem__(self, row: int) -> Tensor:
        with Image.open(self.images.files[row]) as image:
            return to_pixels(image, self.images.channels, self.images.size)


class _Rows:
    """A batch sampler over an iterable of row tensors, which may be endless."""

    def __init__(self, batches: Iterable[Tensor]):
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.batches)
