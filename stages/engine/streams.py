"""Endless shuffled batches on the device, augmented there, each image in its own way."""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from stages.datasets import ImageSet
from stages.datasets.images import to_unit
from stages.engine.runtime import Runtime, mix
from stages.errors import UserError
from stages.params import Augment

_GPU_SHARE = 4  # data moves to the GPU while it takes at most this part of the free memory


class Batch(NamedTuple):
    """`images` in [0, 1], (B, C, S, S); `labels` (B,); `rows` (B,) of the set; `logits` (B, K) of the teacher or None."""

    images: Tensor
    labels: Tensor
    rows: Tensor
    logits: Tensor | None


class Stream:
    """Batches of `images` for one rank, a new shuffle every epoch, the incomplete last batch left out.

    Batch number i is a pure function of (seed, name, i), so `position` is all the state there is. `logits` (n, K) are handed
    out only while images are not augmented: a changed image has other logits.
    """

    def __init__(
        self,
        name: str,
        images: ImageSet,
        batch: int,
        seed: int,
        runtime: Runtime,
        augment: Augment = Augment(),  # noqa: B008 (frozen)
        logits: Tensor | None = None,
    ):
        if len(images) < batch:
            raise UserError(
                f"{name}: {len(images)} images are fewer than one batch of {batch}; "
                "lower the task's `batch` or take more images (`ood`, `curate.count`)"
            )
        self.images = _near(images, runtime)
        self.labels = images.labels.to(runtime.device)
        self.logits = None if logits is None or augment.changes else logits.to(runtime.device)
        self.batch, self.share = batch, runtime.share(batch, "a batch")
        self.seed, self.runtime = (seed, zlib.crc32(name.encode())), runtime
        self.augment = augment
        self.position = 0
        self._reader: Iterator[Tensor] | None = None
        self._ahead: list[Tensor] = []  # rows asked of the reader, not handed out yet
        self._epoch, self._order = -1, torch.empty(0)

    @property
    def per_epoch(self) -> int:
        """Batches in one pass over the images."""
        return len(self.images) // self.batch

    def next(self) -> Batch:
        """The next batch; moves `position` on by one."""
        if self._reader is None:
            self._reader = self.images.read(self._rows_from(self.position))
        pixels = next(self._reader)
        rows = self._ahead.pop(0).to(self.runtime.device)
        self.position += 1
        images = to_unit(augmented(pixels.to(self.runtime.device), self.augment))
        return Batch(images, self.labels[rows], rows, None if self.logits is None else self.logits[rows])

    def seek(self, position: int) -> None:
        """Go to batch number `position`."""
        self.position, self._reader, self._ahead = position, None, []

    def _rows_from(self, position: int) -> Iterator[Tensor]:
        while True:
            epoch, place = divmod(position, self.per_epoch)
            if epoch != self._epoch:
                generator = torch.Generator().manual_seed(mix(*self.seed, epoch))
                self._epoch, self._order = epoch, torch.randperm(len(self.images), generator=generator)
            start = place * self.batch + self.runtime.rank * self.share
            rows = self._order[start : start + self.share]
            self._ahead.append(rows)
            yield rows
            position += 1


def augmented(images: Tensor, augment: Augment) -> Tensor:
    """Zero-pad (B, C, S, S) by `crop` pixels and crop back at a random place; flip with probability 1/2; each image for itself.

    Differentiable. Draws from torch's default generator on the CPU, so that every device sees the same draws.
    """
    n, _, height, width = images.shape
    device, crop = images.device, augment.crop
    if augment.flip:
        mirrored = (torch.rand(n) < 0.5).to(device)
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    if crop:
        top, left = torch.randint(2 * crop + 1, (2, n, 1)).to(device)
        padded = torch.nn.functional.pad(images, (crop, crop, crop, crop))
        rows = (top + torch.arange(height, device=device)).view(n, 1, height, 1)
        columns = (left + torch.arange(width, device=device)).view(n, 1, 1, width)
        sample = torch.arange(n, device=device).view(n, 1, 1, 1)
        channel = torch.arange(images.shape[1], device=device).view(1, -1, 1, 1)
        images = padded[sample, channel, rows, columns]
    return images


def _near(images: ImageSet, runtime: Runtime) -> ImageSet:
    """The set with its pixels on the device where they fit."""
    if images.images is None or runtime.device.type != "cuda":
        return images
    free, _ = torch.cuda.mem_get_info(runtime.device)
    if images.images.numel() * _GPU_SHARE > free:
        return images
    return replace(images, images=images.images.to(runtime.device))
