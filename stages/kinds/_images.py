"""What all kinds of labels of images have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages import kinds
from stages.curation.duplicates import near_duplicates
from stages.datasets.examples import INPUT, LABEL, LOGITS, UNKNOWN, Examples, channel_statistics
from stages.datasets.images import Augment, ImageForm, Moves, to_uint8, to_unit
from stages.engine.streams import Batch
from stages.networks.weights import Blueprint


def packer(train: Examples, form: ImageForm, folder: Path) -> Callable[[Examples], Examples]:
    """How examples get the form that networks take: images have it."""
    return lambda examples: examples


def twins(examples: Examples, others: Examples, what: str) -> Tensor:
    """Rows of `examples` that stand in `others` too, or nearly; these are cut and shrunk to the form of `examples`.

    `what` is the title of a progress bar.
    """
    _, height, width = examples.shape
    if others.shape != examples.shape:
        ratio = min(others.shape[1] / height, others.shape[2] / width)
        high, wide = round(ratio * height), round(ratio * width)
        top, left = (others.shape[1] - high) // 2, (others.shape[2] - wide) // 2
        middle = others.all_inputs()[:, :, top : top + high, left : left + wide]
        others = others.having(**{INPUT: F.interpolate(middle, (height, width), antialias=True, mode="bilinear")})
    return near_duplicates(examples, others, what)


class ImageKind(kinds.Kind):
    """Images, and labels (n,) or (n, H, W); what is labelled UNKNOWN does not count.

    Networks are trained on crops where the form says so: a larger image is cut to one at a random place.
    """

    form: ImageForm

    def __init__(self, form: ImageForm, classes: tuple[str, ...]):
        super().__init__(form.trained, classes)
        self.whole = form

    def blueprint(self, network: str, examples: Examples, model: dict[str, Any] | None = None) -> Blueprint:
        """With the mean and standard deviation of each channel in [0, 1], by which the network normalises."""
        mean, std = channel_statistics(examples)
        return Blueprint(network, examples.classes, examples.shape, mean.tolist(), std.clamp(min=1e-3).tolist(), model=model)

    def blank(self, n: int) -> Tensor:
        """Black images (n, C, H, W)."""
        return torch.zeros(n, *self.whole.shape)

    def plain(self, inputs: Tensor) -> Tensor:
        """Images in [0, 1]."""
        return to_unit(inputs)

    def stored(self, samples: Tensor) -> Tensor:
        """Return the images as 8-bit integers, as files store them."""
        return to_uint8(samples.clamp(0, 1))

    def changed(self, shape: tuple[int, ...], augment: Augment) -> bool:
        """Say whether the augmentation moves or cuts images."""
        return augment.changes or any(self._spare(shape))

    def view(self, batch: Batch, augment: Augment) -> Batch:
        """Images in [0, 1], each cut, cropped, flipped and scaled for itself, and its label map with it."""
        images = batch[INPUT]
        shape = tuple(images.shape[1:])
        moves = Moves(len(images), augment, self._spare(shape))
        seen = {key: column for key, column in batch.items() if key != LOGITS or not self.changed(shape, augment)}
        seen[INPUT] = to_unit(moves(images))
        if LABEL in batch and batch[LABEL].dim() > 1:
            seen[LABEL] = moves(batch[LABEL][:, None], fill=UNKNOWN)[:, 0]
        return seen

    def _spare(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of an image that a crop leaves out."""
        _, height, width = self.form.shape
        return shape[1] - height, shape[2] - width
