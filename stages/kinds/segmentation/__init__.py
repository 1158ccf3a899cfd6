"""Semantic segmentation: logits (n, K, H, W), labels (n, H, W)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages import kinds
from stages.datasets.examples import UNKNOWN, Examples
from stages.kinds._images import ImageKind
from stages.kinds._percent import percent
from stages.kinds.segmentation._overlap import confusion, mean_overlap
from stages.losses.distillation import entropy


class Kind(ImageKind):
    """A class for every pixel; those labelled UNKNOWN do not count."""

    has = frozenset({kinds.IMAGES})
    score = "miou"

    @property
    def answer(self) -> tuple[int, ...]:
        """The shape of the logits of one image: (K, H, W)."""
        return (len(self.classes), *self.form.shape[1:])

    def summary(self, logits: Tensor) -> dict[str, Tensor]:
        """Classes' shares of the pixels, and means over pixels."""
        shares = F.one_hot(logits.argmax(1).flatten(1), logits.shape[1]).to(logits.dtype).mean(1)
        confidence = logits.softmax(1).amax(1)
        return {"shares": shares, "entropy": entropy(logits).mean((1, 2)), "confidence": confidence.mean((1, 2))}

    def measure(self, logits: Tensor, examples: Examples) -> float:
        """Mean IoU in percent, of one confusion matrix over all pixels."""
        return mean_overlap(confusion(logits.argmax(1), examples.label, len(self.classes)))

    def agreement(self, logits: Tensor, teacher: Tensor) -> float:
        """The same class predicted, in percent of all pixels."""
        return percent(logits.argmax(1) == teacher.argmax(1))

    def sense(self, logits: Tensor, examples: Examples) -> tuple[float, float]:
        """Mean IoU, and that of always the most frequent class."""
        labels = examples.label
        most = torch.bincount(labels[labels != UNKNOWN]).argmax()
        return self.measure(logits, examples), mean_overlap(confusion(most.expand_as(labels), labels, len(self.classes)))
