"""Keep what the teacher is sure of, near its classes' prototypes, and some of every class (ODSD, arXiv:2307.16601)."""

from typing import ClassVar, Literal

from torch import Tensor

from stages.curation import scores as of
from stages.curation.rules import KeepRule, Scores
from stages.support.sections import Positive, Weight


class Rule(KeepRule):
    """Weights of its scores, `prototypes` a class, and what keeps rare classes: a `quota` each, or the `density` that counts
    against crowded ones.
    """

    keep: Literal["odsd"]
    features: ClassVar[bool] = True
    confidence: Weight = 1.0
    outlier: Weight = 1.0
    density: Weight = 1.0
    prototypes: Positive = 4
    balance: Literal["quota", "density"] = "quota"

    def scores(self, known: Scores, features: Tensor | None, classes: int) -> Scores:
        """`outlier` and `density`, and `total`, the weighted sum by which examples are ranked, higher is better.

        With quotas it leaves the density out, which the quotas stand for.
        """
        assert features is not None
        outlier = of.outlier(features, known["predicted"], known["confidence"], self.prototypes)
        density = of.density(known["predicted"], classes)
        total = self.confidence * of.scaled(known["confidence"]) - self.outlier * of.scaled(outlier)
        if self.balance == "density":
            total = total - self.density * of.scaled(density)
        return {"outlier": outlier, "density": density, "total": total}

    def choose(self, scores: Scores, count: int, classes: int) -> Tensor:
        """The best of each class, or of all."""
        if self.balance == "density":
            return of.best(scores["total"], count)
        return of.best_of_each(scores["total"], scores["predicted"], classes, count)
