"""Keep a random part."""

from typing import Literal

from torch import Tensor

from stages.curation.rules import KeepRule, Scores
from stages.support.sections import Seed
from stages.support.seeds import shuffled


class Rule(KeepRule):
    """A seeded draw: what every sampler should beat."""

    keep: Literal["random"]
    seed: Seed = 0

    def choose(self, scores: Scores, count: int, classes: int) -> Tensor:
        """`count` rows at random."""
        return shuffled(len(scores["entropy"]), self.seed)[:count]
