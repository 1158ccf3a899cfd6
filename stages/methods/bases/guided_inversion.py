"""Inversion guided by T's batch statistics, by how sure it is, and by where S is still far from it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.losses import distillation, synthesis
from stages.losses.precision import full
from stages.losses.synthesis import Moments
from stages.methods.bases.inversion import Inversion
from stages.methods.blocks.terms import Terms
from stages.networks.taps import look, stored
from stages.support.sections import Weight


class Lowest:
    """Tensors of the step with the lowest loss so far: copies, chosen without making a GPU wait."""

    def __init__(self) -> None:
        self.loss: Tensor | None = None
        self.kept: list[Tensor] = []

    def offer(self, loss: Tensor, *tensors: Tensor) -> None:
        """Keep copies of `tensors` if `loss`, which is all ranks', is lower than every one before."""
        loss, tensors = loss.detach(), tuple(tensor.detach() for tensor in tensors)
        if self.loss is None:
            self.loss, self.kept = loss, [tensor.clone() for tensor in tensors]
            return
        better = loss < self.loss
        self.loss = torch.where(better, loss, self.loss)
        self.kept = [torch.where(better, new, old) for new, old in zip(tensors, self.kept, strict=True)]


class GuidedInversion(Inversion):
    """Terms that are statistics of a batch are of the union of all ranks' batches.

    Batch normalisation in a generator and in S is of each rank's own.
    """

    class Params(Inversion.Params):
        """Weights of three terms."""

        adversarial: Weight
        bn: Weight
        confidence: Weight

    params: Params

    def build(self) -> None:
        """What the teacher's batch normalisation remembers."""
        super().build()
        self.stored: list[Moments] = stored(self.norms)

    @property
    def warm(self) -> bool:
        """Whether S may be asked what it knows: from the last batch of the warm-up on."""
        return self.batches + 1 >= self.params.warmup

    def look(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """T's logits of `images` and what entered each of its batch-norm layers on the way."""
        return look(self.teacher, images, self.norms)

    def guidance(self, view: Tensor, teacher: Tensor, labels: Tensor | None, statistics: list[Moments]) -> Terms:
        """Confidence and batch-norm terms and, once S may be asked, the adversarial term, of what T says of `view`."""
        p = self.params
        terms: Terms = {
            "confidence": (p.confidence, F.cross_entropy(full(teacher), teacher.argmax(1) if labels is None else labels)),
            "bn": (p.bn, synthesis.statistics_mismatch(statistics, self.stored)),
        }
        if p.adversarial and self.warm:
            terms["adversarial"] = (p.adversarial, -self.opposition(teacher, self.student(view)))
        return terms

    def opposition(self, teacher: Tensor, student: Tensor) -> Tensor:
        """How far S is from T, where the images should be such that it is far."""
        return distillation.kl_where_agreed(teacher, student)
