"""Keep what the teacher is surest of, by entropy."""

from typing import Literal

from torch import Tensor

from stages.curation.rules import KeepRule, Scores
from stages.curation.scores import best


class Rule(KeepRule):
    """Keep the images of which the teacher is surest, by entropy."""

    keep: Literal["lowest_entropy"]

    def choose(self, scores: Scores, count: int, classes: int) -> Tensor:
        """Choose the `count` rows of the lowest entropy."""
        return best(-scores["entropy"], count)
