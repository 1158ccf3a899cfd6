"""DFAD: Data-Free Adversarial Distillation (Fang et al. 2019, arXiv:1912.11006)."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from stages.losses import distillation
from stages.losses.precision import full
from stages.methods.bases.game import Game
from stages.methods.blocks.terms import Terms
from stages.networks.generator import Generator, TransposedGenerator, fits_transposed
from stages.networks.normalize import Denormalized
from stages.networks.phases import in_phases

LONGEST = 5.0  # gradient of G where it climbs D, which has no bound


class Method(Game):
    """S and G play on the mean absolute difference of logits: first S, k times, then G, whose rate falls with the student's.

    Up to 32 px the generator's last layer standardises each batch, so that its images are in T's normalised units and may leave
    [0, 1].
    """

    class Params(Game.Params):
        """`damped` makes G climb ln(D + 1), which damps its gradient once the disagreement D is large."""

        damped: bool = False

    params: Params
    betas = (0.9, 0.999)
    constant = False

    @property
    def clip(self) -> float | None:
        """D has no bound, ln(D + 1) a gradient that falls."""
        return None if self.params.damped else LONGEST

    def make_generator(self) -> nn.Module:
        """Generator A of the paper, or B above 32 px where 16 divides both sides."""
        setting, p = self.setting, self.params
        shape, width = setting.form.shape, p.generator_width
        if max(shape[1:]) > 32 and fits_transposed(shape):
            return TransposedGenerator(p.latent, shape, width)
        net = Generator(p.latent, shape, (2 * width, 2 * width, width), bias=True, standardised=True)
        return Denormalized(in_phases(net.layers), setting.mean, setting.std)

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
        """-D, or -ln(D + 1); and, only to be told, the size of both networks' logits, which sets the effective rate."""
        with self.watching():
            teacher, student = self.teacher(fake), self.student(fake)
        d = self.setting.runtime.union(distillation.discrepancy(teacher, student)[None]).mean()
        sizes = {name: full(logits).detach().abs().mean() for name, logits in (("size_T", teacher), ("size_S", student))}
        told: Terms = {name: (0.0, size) for name, size in sizes.items()}
        return {"adversarial": (1.0, -torch.log1p(d) if self.params.damped else -d)} | told
