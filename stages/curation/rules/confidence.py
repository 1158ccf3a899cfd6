"""Keep what the teacher is surest of, by its largest probability (DFND, Chen et al., CVPR 2021)."""

from typing import Literal

from torch import Tensor

from stages.curation.rules import KeepRule, Scores
from stages.curation.scores import best


class Rule(KeepRule):
    """The highest probability of the predicted class."""

    keep: Literal["confidence"]

    def choose(self, scores: Scores, count: int, classes: int) -> Tensor:
        """Choose the `count` rows of which the teacher is surest."""
        return best(scores["confidence"], count)
