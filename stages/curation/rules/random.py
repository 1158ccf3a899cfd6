"""Keep a random part."""

from typing import Literal

import torch
from torch import Tensor

from stages.curation.rules import KeepRule, Scores
from stages.support.seeds import mix


class Rule(KeepRule):
    """A seeded draw: what every sampler should beat."""

    keep: Literal["random"]

    def choose(self, scores: Scores, count: int, classes: int) -> Tensor:
        """`count` rows at random."""
        return torch.randperm(len(scores["entropy"]), generator=torch.Generator().manual_seed(mix(0)))[:count]
