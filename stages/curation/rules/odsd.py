"""Keep what the teacher is sure of, near its classes' prototypes, and some of every class (ODSD, arXiv:2307.16601)."""

from typing import ClassVar, Literal

from torch import Tensor

from stages.curation import scores as of
from stages.curation.rules import KeepRule, Scores
from stages.support.sections import Positive, Weight


class Rule(KeepRule):
    """Weights of its scores, `prototypes` of a class, and what keeps rare classes: a `quota` each, or the `density` that counts
    against crowded ones, or `none`.

    The teacher's `classifier` gives one prototype a class and knows nothing of the pool; with `pool` they are the centres of
    `clusters` of each class's images, among which junk that fills the pool makes its own.
    """

    keep: Literal["odsd"]
    features: ClassVar[bool] = True
    confidence: Weight = 1.0
    outlier: Weight = 1.0
    density: Weight = 1.0
    prototypes: Literal["classifier", "pool"] = "classifier"
    clusters: Positive = 4
    balance: Literal["quota", "density", "none"] = "quota"

    def scores(self, known: Scores, features: Tensor | None, classifier: Tensor | None) -> Scores:
        """`outlier` and `density`, and `total`, the weighted sum by which examples are ranked, higher is better.

        With quotas it leaves the density out, which the quotas stand for.
        """
        assert features is not None
        assert classifier is not None
        if self.prototypes == "pool":
            outlier = of.outlier_in_pool(features, known["predicted"], known["confidence"], self.clusters)
        else:
            outlier = of.outlier(features, known["shares"], classifier)
        density = of.density(known["shares"])
        total = self.confidence * of.scaled(known["confidence"]) - self.outlier * of.scaled(outlier)
        if self.balance == "density":
            total = total - self.density * of.scaled(density)
        return {"outlier": outlier, "density": density, "total": total}

    def choose(self, scores: Scores, count: int, classes: int) -> Tensor:
        """The best of each class, or of all without quotas."""
        if self.balance != "quota":
            return of.best(scores["total"], count)
        return of.best_of_each(scores["total"], scores["predicted"], classes, count)
