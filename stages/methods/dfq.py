"""DFQ: Data-Free Network Quantization (Choi et al., CVPRW 2020, arXiv:2005.04136), for distillation, in CMI's benchmark form."""

import math
from typing import Any

from torch import Tensor

from stages.engine.teacher import BATCH_NORM
from stages.losses import distillation, synthesis
from stages.methods.bases.game import Game
from stages.methods.bases.method import Tempered
from stages.methods.blocks.rank_statistics import union_moments
from stages.methods.blocks.terms import Terms
from stages.networks.taps import BatchNorms
from stages.support.sections import Positive, Weight


class Method(Game):
    """ZSKT's game, held close to T's batch-norm statistics, to sure predictions and to even classes."""

    class Params(Game.Params, Tempered):
        """`bn` weighs the distance to T's running statistics, `balance` is in nats."""

        student_steps: Positive = 10
        adversarial: Weight = 1.0
        bn: Weight = 1.0
        confidence: Weight = 1.0
        balance: Weight = 20.0

    params: Params

    @classmethod
    def needs(cls, params: Any) -> frozenset[str]:
        """G learns through T, close to T's running statistics."""
        return super().needs(params) | {BATCH_NORM}

    def build(self) -> None:
        """An ear on T's batch normalisation."""
        super().build()
        self.norms = BatchNorms(self.teacher)

    def terms(self, fake: Tensor) -> Terms:
        """Adversarial, batch-norm, one-hot and balance terms."""
        p, runtime = self.params, self.setting.runtime
        teacher, heard = self.norms.ask(fake)
        with self.watching():
            student = self.student(fake)
        return {
            "adversarial": (p.adversarial, -distillation.kl_divergence(teacher, student)),
            "bn": (p.bn, synthesis.statistics_mismatch(union_moments(heard, runtime), self.norms.running)),
            "confidence": (p.confidence, distillation.confidence(teacher)),
            "balance": (p.balance, distillation.balance(runtime.union(teacher), math.e)),
        }
