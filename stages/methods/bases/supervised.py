"""Supervised learning: the student learns from labels, without a teacher."""

from typing import ClassVar, Literal

from torch import Tensor

from stages.methods.bases.method import IN_DOMAIN, LABELS, Method, MethodParams
from stages.support.sections import Weight


class Supervised(Method):
    """SGD on the true labels, down the kind's loss; subclasses say of which domain."""

    class Params(MethodParams):
        """`focal` is the exponent of the focal loss; 0 is plain cross-entropy."""

        focal: Weight = 0.0

    params: Params
    answered = nesterov = True
    domain: ClassVar[Literal["in_domain", "student_domain"]]

    def build(self) -> None:
        """One stream of labelled examples."""
        self.examples = self.stream(self.domain, self.setting.data[self.domain], self.schedule.real, self.schedule.augment)

    def step(self) -> dict[str, Tensor]:
        """Take one step down the loss of labels."""
        batch = self.examples.next()
        with self.cost.timed("distillation"), self.student.turn():
            loss = self.setting.kind.loss(self.student(batch["input"]), batch, self.params.focal)
            self.student.update(loss)
        return {"loss": loss}


class InDomain(Supervised):
    """Sees the in-domain training split: how teachers are trained, too."""

    domain = "in_domain"
    sees = frozenset({IN_DOMAIN, LABELS})
