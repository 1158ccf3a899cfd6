"""What kinds with one label an example have in common: logits (n, K), labels (n,)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stages import kinds
from stages.datasets.examples import Examples
from stages.kinds._percent import percent, recalls
from stages.losses.distillation import entropy


class OneLabel(kinds.Kind):
    """One class an example."""

    score = "top1"

    def summary(self, logits: Tensor) -> dict[str, Tensor]:
        """Summarise the whole example, which has one class."""
        shares = F.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
        return {"shares": shares, "entropy": entropy(logits), "confidence": logits.softmax(1).amax(1)}

    def aims(self, n: int) -> Tensor:
        """Every class equally often, the rest at random."""
        classes = len(self.classes)
        order = torch.cat([torch.randperm(classes) for _ in range(math.ceil(n / classes))])[:n]
        return order[torch.randperm(n)]

    def measure(self, logits: Tensor, examples: Examples) -> float:
        """Top-1 accuracy in percent."""
        return percent(logits.argmax(1) == examples.label)

    def agreement(self, logits: Tensor, teacher: Tensor) -> float:
        """The same class predicted."""
        return percent(logits.argmax(1) == teacher.argmax(1))

    def sense(self, logits: Tensor, examples: Examples) -> tuple[float, float]:
        """The mean recall of the classes that have an example: of always the same class it is 1 / K, however many have it."""
        known = [one for one in recalls(logits.argmax(1), examples.label, logits.shape[1]) if one is not None]
        return sum(known) / len(known), 100 / len(known) if len(known) > 1 else 0.0
