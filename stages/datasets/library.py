"""Data sets that torchvision knows and, for most of them, downloads."""

import inspect
from pathlib import Path
from typing import Literal

import torch

from stages.datasets.images import ImageSet, to_pixels
from stages.errors import UserError
from stages.progress import progress
from stages.sections import Section


class Torchvision(Section):
    """A labelled set of torchvision.datasets (CIFAR10, CIFAR100, SVHN, MNIST, USPS, FashionMNIST, STL10, ...)."""

    source: Literal["torchvision"]
    name: str
    root: str = "data/raw"

    def read(self, channels: int, size: int) -> ImageSet:
        """The training part."""
        return self._part("train", channels, size)

    def read_test(self, channels: int, size: int) -> ImageSet:
        """The official test part."""
        return self._part("test", channels, size)

    def _part(self, part: str, channels: int, size: int) -> ImageSet:
        """One part of the set, downloaded to `root` if it is not there.

        Raises UserError for an unknown name or where the download fails.
        """
        from torchvision import datasets

        kind = getattr(datasets, self.name, None)
        options = dict(inspect.signature(kind).parameters) if inspect.isclass(kind) else {}
        if kind is None or not {"train", "split"} & options.keys():
            raise UserError(f"torchvision.datasets has no labelled train/test set '{self.name}'")
        which = {"train": part == "train"} if "train" in options else {"split": part}
        Path(self.root).mkdir(parents=True, exist_ok=True)
        try:
            found = kind(self.root, download=True, **which)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{self.name} could not be downloaded ({error}); put its files where torchvision looks, under {self.root}/, "
                f"as torchvision.datasets.{self.name} lays them out, and run again"
            ) from None
        pixels, labels = [], []
        for image, label in progress(found, f"{self.name} {part}"):
            pixels.append(to_pixels(image, channels, size))
            labels.append(int(label))
        classes = getattr(found, "classes", None) or [str(i) for i in range(max(labels) + 1)]
        return ImageSet(
            torch.stack(pixels), torch.tensor(labels), torch.arange(len(labels)), tuple(map(str, classes)), channels, size
        )
