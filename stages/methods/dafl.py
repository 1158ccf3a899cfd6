"""DAFL: Data-Free Learning of Student Networks (Chen et al., ICCV 2019, arXiv:1904.01186), in CMI's benchmark form."""

import math

from torch import Tensor

from stages import losses
from stages.params import Positive, Weight
from stages.synthesis.game import Game
from stages.synthesis.terms import Terms
from stages.taps import last_linear, look


class Method(Game):
    """G makes images of which T is sure, that excite T's features, evenly over classes. The student plays no part in it."""

    class Params(Game.Params):
        """`activation` weighs the mean absolute penultimate feature, `balance` is in nats."""

        latent: Positive = 512
        confidence: Weight = 1.0
        balance: Weight = 20.0
        activation: Weight = 0.001

    params: Params

    def build(self) -> None:
        """An ear on T's penultimate feature."""
        super().build()
        self.head = last_linear(self.teacher)

    def terms(self, fake: Tensor) -> Terms:
        """One-hot, balance and activation terms."""
        p = self.params
        teacher, (feature,) = look(self.teacher, fake, [self.head])
        return {
            "confidence": (p.confidence, losses.confidence(teacher)),
            "balance": (p.balance, losses.balance(teacher, math.e)),
            "activation": (p.activation, -losses.full(feature).abs().mean()),
        }
