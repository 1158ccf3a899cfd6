"""ZSKT: Zero-shot Knowledge Transfer (Micaelli & Storkey, NeurIPS 2019, arXiv:1905.09768), in CMI's benchmark form."""

from torch import Tensor

from stages.losses import distillation
from stages.methods.bases.game import Game
from stages.methods.bases.method import Tempered
from stages.methods.blocks.terms import Terms


class Method(Game):
    """G seeks the images on which S is furthest from T in KL divergence; S learns to agree on them."""

    class Params(Game.Params, Tempered):
        """Those of a game, and the temperature of S."""

    params: Params

    def terms(self, fake: Tensor) -> Terms:
        """The adversarial term alone: exactly 0 where S is as T."""
        with self.watching():
            return {"adversarial": (1.0, -distillation.kl_divergence(self.teacher(fake), self.student(fake)))}
