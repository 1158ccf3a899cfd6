"""What all kinds of labels of images have in common."""

import torch
from torch import Tensor

from stages import kinds
from stages.datasets.examples import INPUT, LABEL, LOGITS, UNKNOWN, Examples, channel_statistics
from stages.datasets.images import Augment, ImageForm, Moves, to_unit
from stages.engine.streams import Batch
from stages.losses.labels import cross_entropy


class ImageKind(kinds.Kind):
    """Images, and labels (n,) or (n, H, W); what is labelled UNKNOWN does not count.

    Networks are trained on crops where the form says so: a larger image is cut to one at a random place.
    """

    form: ImageForm

    def __init__(self, form: ImageForm, classes: tuple[str, ...]):
        super().__init__(form.trained, classes)
        self.whole = form

    def statistics(self, examples: Examples) -> tuple[list[float], list[float]]:
        """Of each channel in [0, 1]."""
        mean, std = channel_statistics(examples)
        return mean.tolist(), std.clamp(min=1e-3).tolist()

    def blank(self, n: int) -> Tensor:
        """Black images."""
        return torch.zeros(n, *self.whole.shape)

    def plain(self, inputs: Tensor) -> Tensor:
        """Images in [0, 1]."""
        return to_unit(inputs)

    def changed(self, shape: tuple[int, ...], augment: Augment) -> bool:
        """Moved, or cut."""
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

    def loss(self, logits: Tensor, batch: Batch, focal: float = 0.0) -> Tensor:
        """Cross-entropy, or focal loss, of all that is labelled."""
        return cross_entropy(logits, batch[LABEL], UNKNOWN, focal)

    def _spare(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of an image that a crop leaves out."""
        _, height, width = self.form.shape
        return shape[1] - height, shape[2] - width
