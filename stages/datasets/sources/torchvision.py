"""Data sets that torchvision knows and, for most of them, downloads."""

import inspect
from pathlib import Path
from typing import Literal

import torch

from stages.datasets.examples import Examples, pack
from stages.datasets.images import ImageForm, to_pixels
from stages.support.errors import UserError
from stages.support.progress import progress
from stages.support.sections import Section, Word


class Source(Section):
    """A labelled set of torchvision.datasets (CIFAR10, CIFAR100, SVHN, MNIST, USPS, FashionMNIST, STL10, ...).

    `classes` are other names for its classes, in their order: two sets have to call them alike to stand in one task.
    """

    source: Literal["torchvision"]
    name: str
    root: str = "data/raw"
    classes: list[Word] | None = None

    def read(self, form: ImageForm) -> Examples:
        """Read the training part of the data set."""
        return self._part("train", form)

    def read_test(self, form: ImageForm) -> Examples:
        """The official test part."""
        return self._part("test", form)

    def _part(self, part: str, form: ImageForm) -> Examples:
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
            pixels.append(to_pixels(image, form.shape))
            labels.append(int(label))
        classes = getattr(found, "classes", None) or [str(i) for i in range(max(labels) + 1)]
        if self.classes and len(self.classes) != len(classes):
            raise UserError(
                f"torchvision.datasets.{self.name} has {len(classes)} classes ({', '.join(map(str, classes[:5]))}, ...), "
                f"`classes` names {len(self.classes)}"
            )
        classes = self.classes or classes
        return pack(torch.stack(pixels), torch.tensor(labels), tuple(map(str, classes)))
