"""Keep what the teacher is least sure of (MosaicKD, Fang et al. 2021, arXiv:2110.15094)."""

from typing import Literal

from torch import Tensor

from stages.curation.rules import KeepRule, Scores
from stages.curation.scores import best


class Rule(KeepRule):
    """Keep the images of which the teacher is least sure."""

    keep: Literal["highest_entropy"]

    def choose(self, scores: Scores, count: int, classes: int) -> Tensor:
        """Choose the `count` rows of the highest entropy."""
        return best(scores["entropy"], count)
