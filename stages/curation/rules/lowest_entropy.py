"""Keep what the teacher is surest of, by entropy."""

from typing import Literal

from torch import Tensor

from stages.curation.rules import KeepRule, Scores
from stages.curation.scores import best


class Rule(KeepRule):
    """The lowest entropy."""

    keep: Literal["lowest_entropy"]

    def choose(self, scores: Scores, count: int, classes: int) -> Tensor:
        """The first `count`."""
        return best(-scores["entropy"], count)
