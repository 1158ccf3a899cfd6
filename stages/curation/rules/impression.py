"""Keep what leaves an impression like that of the training images (Impression Space, arXiv:2007.05441; the rule is ours)."""

from typing import ClassVar, Literal

from torch import Tensor

from stages.curation.rules import KeepRule, Scores
from stages.curation.scores import best_of_each


class Rule(KeepRule):
    """The least distance of an image's impression from that of the training set, as far as each class has some of its own."""

    keep: Literal["impression"]
    impressions: ClassVar[bool] = True

    def choose(self, scores: Scores, count: int, classes: int) -> Tensor:
        """The best of each predicted class."""
        return best_of_each(-scores["impression"], scores["predicted"], classes, count)
