"""DFQ: Data-Free Network Quantization (Choi et al., CVPRW 2020, arXiv:2005.04136), for distillation, in CMI's benchmark form."""

import math

from torch import Tensor

from stages import losses
from stages.params import Positive, Weight
from stages.synthesis.game import Game
from stages.synthesis.terms import Terms
from stages.taps import batch_norms, look, moments, stored


class Method(Game):
    """ZSKT's game, held close to T's batch-norm statistics, to sure predictions and to even classes."""

    class Params(Game.Params):
        """`bn` weighs the distance to T's running statistics, `balance` is in nats."""

        student_steps: Positive = 10
        adversarial: Weight = 1.0
        bn: Weight = 1.0
        confidence: Weight = 1.0
        balance: Weight = 20.0

    params: Params

    def build(self) -> None:
        """An ear on T's batch normalisation."""
        super().build()
        self.norms = batch_norms(self.teacher)
        self.stored = stored(self.norms)

    def terms(self, fake: Tensor) -> Terms:
        """Adversarial, batch-norm, one-hot and balance terms."""
        p = self.params
        teacher, heard = look(self.teacher, fake, self.norms)
        with self.watching():
            student = self.student(fake)
        return {
            "adversarial": (p.adversarial, -losses.kl_divergence(teacher, student)),
            "bn": (p.bn, losses.statistics_mismatch(moments(heard), self.stored)),
            "confidence": (p.confidence, losses.confidence(teacher)),
            "balance": (p.balance, losses.balance(teacher, math.e)),
        }
