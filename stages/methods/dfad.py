"""DFAD: Data-Free Adversarial Distillation (Fang et al. 2019, arXiv:1912.11006)."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from stages.families.game import Game
from stages.families.terms import Terms
from stages.losses import distillation
from stages.networks.generator import Generator
from stages.networks.normalize import Denormalized


class Method(Game):
    """S and G play on the mean absolute difference of logits: first S, k times, then G.

    The generator's last layer standardises each batch, so its images are in T's normalised units and may leave [0, 1].
    """

    class Params(Game.Params):
        """`damped` makes G climb ln(D + 1), which damps its gradient once the disagreement D is large."""

        damped: bool = False

    params: Params
    betas = (0.9, 0.999)

    def make_generator(self) -> nn.Module:
        """Generator A of the paper: biased convolutions, tanh, and batch normalisation without parameters at the end."""
        setting, p = self.setting, self.params
        width = p.generator_width
        net = Generator(p.latent, setting.form.shape, (2 * width, 2 * width, width), bias=True, standardised=True)
        return Denormalized(net, setting.mean, setting.std)

    def step(self) -> dict[str, Tensor]:
        """k steps of S, then G."""
        with self.cost.timed("distillation"):
            scalars = self.student_steps()
        with self.cost.timed("synthesis"):
            return scalars | self.generator_step()

    def watching(self) -> AbstractContextManager[None]:
        """S stays in train mode, its running statistics stand still."""
        return nullcontext()

    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """D, the mean absolute difference of logits."""
        return distillation.discrepancy(teacher, student)

    def terms(self, fake: Tensor) -> Terms:
        """-D, or -ln(D + 1)."""
        with self.watching():
            d = distillation.discrepancy(self.teacher(fake), self.student(fake))
        return {"adversarial": (1.0, -torch.log1p(d) if self.params.damped else -d)}
