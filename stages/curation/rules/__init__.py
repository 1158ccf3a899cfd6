"""Rules by which curation keeps examples: one file each, with a section `Rule` that is chosen by the key `keep`."""

from typing import Any, ClassVar, Literal, Self

from torch import Tensor

from stages.settings.task import EVERYTHING, SMOKE_IMAGES
from stages.support.plugins import plugin
from stages.support.sections import Positive, Section, check

FOLDER = "stages.curation.rules"
Scores = dict[str, Tensor]  # of n examples: what the kind's summary says, the class `predicted`, and what a rule adds (n,)


class KeepRule(Section):
    """What every rule has: `count`, how many examples it keeps; by default half of them.

    `weights` says how often methods that compose images draw each that is kept: as they like, or such that the pool's `moments`
    in the teacher's batch normalisation are its training data's, and the classes that it sees even.
    """

    keep: str
    count: Positive | None = None
    weights: Literal["none", "moments"] = "none"
    features: ClassVar[bool] = False  # whether it looks at the teacher's penultimate features and its classifier
    impressions: ClassVar[bool] = False  # whether at the distance `impression` (n,) of each image from the teacher's training set

    def smoke(self) -> Self:
        """The same rule with a small pool."""
        return self.model_copy(update={"count": min(self.count or SMOKE_IMAGES, SMOKE_IMAGES)})

    def scores(self, known: Scores, features: Tensor | None, classifier: Tensor | None) -> Scores:
        """Scores beside those that are `known`.

        Where the rule asks for them, `features` are (n, F), half precision, and `classifier` (K, F) are the rows of the teacher's
        last linear layers, one a class.
        """
        return {}

    def choose(self, scores: Scores, count: int, classes: int) -> Tensor:
        """Rows to keep, `count` at most."""
        raise NotImplementedError


def open_rule(task: str, content: dict[str, Any], scale: str = "full") -> KeepRule:
    """The rule of a task's section `curate`; raises UserError that names the key and the fix."""
    where = f"task.{task}.curate"
    content = {"keep": EVERYTHING, **content}
    kind = plugin(FOLDER, str(content["keep"]), "Rule", "rule", f"{where}.keep: ")
    rule: KeepRule = check(kind, content, where)
    return rule.smoke() if scale == "smoke" else rule
