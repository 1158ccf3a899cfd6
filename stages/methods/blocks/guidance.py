"""What guides an inversion: T's batch statistics, how sure T is, and where S is still far from it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.engine.players import Player
from stages.engine.teacher import Teacher
from stages.losses import distillation, synthesis
from stages.losses.precision import full
from stages.losses.synthesis import Moments
from stages.methods.blocks.terms import Terms
from stages.networks.taps import BatchNorms
from stages.support.sections import Section, Weight

Divergence = Callable[[Tensor, Tensor], Tensor]  # of T's and S's logits (B, K, ...), a scalar


class Guided(Section):
    """Weights of three terms."""

    adversarial: Weight
    bn: Weight
    confidence: Weight


class Guidance:
    """Terms of T's batch-norm layers, `norms`, of its answers, and of how far S is from them, weighted by `p`."""

    def __init__(self, teacher: Teacher, p: Guided, divergence: Divergence = distillation.kl_where_agreed):
        self.norms, self.p, self.divergence = BatchNorms(teacher), p, divergence

    def terms(
        self, view: Tensor, teacher: Tensor, labels: Tensor | None, statistics: list[Moments], student: Player | None
    ) -> Terms:
        """T should be sure that `view` (B, C, S, S) is of `labels` (B,), or of its own answer; S, if it may be asked, not yet."""
        p = self.p
        terms: Terms = {
            "confidence": (p.confidence, F.cross_entropy(full(teacher), teacher.argmax(1) if labels is None else labels)),
            "bn": (p.bn, synthesis.statistics_mismatch(statistics, self.norms.running)),
        }
        if p.adversarial and student:
            terms["adversarial"] = (p.adversarial, -self.divergence(teacher, student(view)))
        return terms


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
