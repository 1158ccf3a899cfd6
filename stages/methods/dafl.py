"""DAFL: Data-Free Learning of Student Networks (Chen et al., ICCV 2019, arXiv:1904.01186), in CMI's benchmark form."""

import math
from typing import Any

import torch
from torch import Tensor

from stages.engine.teacher import FEATURES
from stages.losses import distillation
from stages.losses.precision import full
from stages.methods.bases.game import Game
from stages.methods.bases.method import Tempered
from stages.methods.blocks.terms import Terms
from stages.networks.taps import heads, logits_and_inputs
from stages.support.sections import Positive, Weight


class Method(Game):
    """G makes images of which T is sure, that excite T's features, evenly over classes. The student plays no part in it."""

    class Params(Game.Params, Tempered):
        """`activation` weighs the mean absolute penultimate feature, `balance` is in nats."""

        latent: Positive = 512
        confidence: Weight = 1.0
        balance: Weight = 20.0
        activation: Weight = 0.001

    params: Params

    @classmethod
    def needs(cls, params: Any) -> frozenset[str]:
        """G learns by T's features too."""
        return super().needs(params) | {FEATURES}

    def build(self) -> None:
        """An ear on T's penultimate feature."""
        super().build()
        self.heads = heads(self.teacher)

    def terms(self, fake: Tensor) -> Terms:
        """One-hot, balance and activation terms."""
        p = self.params
        teacher, features = logits_and_inputs(self.teacher, fake, self.heads)
        return {
            "confidence": (p.confidence, distillation.confidence(teacher)),
            "balance": (p.balance, distillation.balance(self.setting.runtime.union(teacher), math.e)),
            "activation": (p.activation, -full(torch.cat(features, 1)).abs().mean()),
        }
