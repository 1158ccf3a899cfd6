"""Noise adaptation: how the teacher's hard predictions on OOD images may be wrong (DFND, Chen et al., CVPR 2021)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.losses.precision import exact, full


class Adaptation(nn.Module):
    """A stochastic matrix Q (K, K): row k says what T answers where S believes in class k.

    The diagonal starts at `accuracy`, and is learned only where `learned` says so; the rest of a row is a softmax of K - 1 free
    numbers, scaled to what the diagonal leaves.
    """

    diagonal: Tensor

    def __init__(self, classes: int, accuracy: float, learned: bool):
        super().__init__()
        start = torch.full((classes,), math.log(accuracy / (1 - accuracy)))
        if learned:
            self.diagonal = nn.Parameter(start)
        else:
            self.register_buffer("diagonal", start)
        self.free = nn.Parameter(torch.zeros(classes, classes - 1))

    def matrix(self) -> Tensor:
        """Q; every row sums to 1."""
        kept = self.diagonal.sigmoid()[:, None]
        rest = (1 - kept) * self.free.softmax(1)
        classes = len(kept)
        off = ~torch.eye(classes, dtype=torch.bool, device=rest.device)
        return torch.diag(kept[:, 0]).masked_scatter(off, rest.flatten())

    @exact
    def forward(self, logits: Tensor, predicted: Tensor, weights: Tensor | None = None) -> Tensor:
        """NLL of T's predictions (B,) under softmax(logits) Q, for S's logits (B, K); weighted by class (K,) where given."""
        mixed = full(logits).softmax(1) @ self.matrix()
        return F.nll_loss(mixed.clamp(min=1e-8).log(), predicted, weights)
