"""Classification of images: logits (n, K), labels (n,)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages import kinds
from stages.datasets.examples import Examples, channel_statistics
from stages.datasets.images import Augment, augmented, to_unit
from stages.engine.streams import Batch
from stages.kinds._percent import percent
from stages.losses.distillation import entropy
from stages.losses.precision import full


class Kind(kinds.Kind):
    """One class an image."""

    has = frozenset({kinds.IMAGES, kinds.ONE_LABEL})
    headline = "top1"

    def statistics(self, examples: Examples) -> tuple[list[float], list[float]]:
        """Of each channel in [0, 1]."""
        mean, std = channel_statistics(examples)
        return mean.tolist(), std.clamp(min=1e-3).tolist()

    def view(self, batch: Batch, augment: Augment) -> Batch:
        """Images in [0, 1], each cropped and flipped for itself."""
        return {**batch, "input": to_unit(augmented(batch["input"], augment))}

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(full(logits), batch["label"])

    def summary(self, logits: Tensor) -> dict[str, Tensor]:
        """Of the whole image."""
        return {"predicted": logits.argmax(1), "entropy": entropy(logits), "confidence": logits.softmax(1).amax(1)}

    def measure(self, logits: Tensor, examples: Examples) -> float:
        """Top-1 accuracy in percent."""
        return percent(logits.argmax(1) == examples.label)

    def agreement(self, logits: Tensor, teacher: Tensor) -> float:
        """The same class predicted."""
        return percent(logits.argmax(1) == teacher.argmax(1))

    def guess(self, examples: Examples) -> float:
        """Always the most frequent class."""
        return percent(examples.label == torch.bincount(examples.label).argmax())
