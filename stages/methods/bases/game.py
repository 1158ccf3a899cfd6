"""Generator games: every batch is fresh out of a generator that plays against, or with, the student."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from stages.engine.players import Player, in_eval
from stages.engine.teacher import GRADIENT
from stages.kinds import IMAGES
from stages.losses.precision import full
from stages.methods.bases.method import Method, MethodParams, Seen
from stages.methods.blocks.terms import Terms, values, weighted
from stages.networks.generator import generator_for
from stages.support.sections import Positive, Rate


class Game(Method):
    """One step of G down `terms` of its images, then k steps of S on fresh images. Subclasses write `terms`.

    The frame of the benchmark in which DAFL, ZSKT, DFQ and DFAD are compared (Fang et al. 2021, arXiv:2105.08584): as many images
    for G as for S, S in eval mode while G learns, G's learning rate constant.

    Terms that are statistics of a batch are of the union of all ranks' batches; batch normalisation in G, S and any companion is
    of each rank's own.
    """

    class Params(MethodParams):
        """`sampling` says by which batch statistics G normalises images for S: the batch's own, or its running ones."""

        student_steps: Positive = 5
        latent: Positive = 256
        lr: Rate = 1e-3
        generator_width: Positive = 64
        sampling: Literal["batch", "running"] = "batch"

    params: Params
    of_kind = frozenset({IMAGES})
    betas = (0.5, 0.999)
    constant = True  # the learning rate of G and its companions; else it falls as the student's does

    @classmethod
    def needs(cls, params: Params) -> frozenset[str]:
        """G learns through T."""
        return frozenset({GRADIENT})

    @property
    def clip(self) -> float | None:
        """The longest gradient of G and its companions; None for any."""
        return None

    def build(self) -> None:
        """Build the generator G and its optimiser Adam."""
        setting = self.setting
        self.batch = setting.runtime.share(self.schedule.batch, "the batch")
        self.generator = self.adam("generator", self.make_generator())

    def make_generator(self) -> nn.Module:
        """A fresh generator: noise (B, latent) -> images in [0, 1]."""
        return generator_for(self.params.latent, self.setting.form.shape, self.params.generator_width)

    @property
    def iterations(self) -> int:
        """One outer iteration takes `student_steps` steps of the student."""
        return self.turns(self.params.student_steps)

    def step(self) -> dict[str, Tensor]:
        """G, then k steps of S."""
        with self.cost.timed("synthesis"):
            scalars = self.generator_step()
        with self.cost.timed("distillation"):
            return scalars | self.student_steps()

    def terms(self, fake: Tensor) -> Terms:
        """The generator's loss terms of its images."""
        raise NotImplementedError

    def generator_step(self) -> dict[str, Tensor]:
        """One step of G down its terms of fresh images; T and S only look."""
        with self.generator.turn():
            fake = self.generate(self.batch)
        terms = self.terms(fake)
        with self.generator.turn():
            self.generator.update(weighted(terms))
        return values(terms)

    def student_steps(self) -> dict[str, Tensor]:
        """k steps of S on fresh images."""
        return {"S": self.imitate([self.student_batch() for _ in range(self.left(self.params.student_steps))])}

    def student_batch(self) -> list[Seen]:
        """What S sees in one step."""
        self.cost.images += self.batch
        return [(self.samples(self.batch), None)]

    def generate(self, count: int) -> Tensor:
        """`count` images of G from standard normal noise, (count, C, S, S)."""
        return full(self.generator(torch.randn(count, self.params.latent, device=self.setting.runtime.device)))

    def samples(self, count: int) -> Tensor:
        """`count` images for S, normalised as `sampling` says."""
        with in_eval(self.generator.net) if self.params.sampling == "running" else nullcontext(), torch.no_grad():
            return self.generate(count)

    def watching(self) -> AbstractContextManager[None]:
        """How S looks at G's images: in eval mode, as the benchmark does."""
        return in_eval(self.student.net)

    def adam(self, name: str, net: nn.Module) -> Player:
        """Register a player with Adam."""
        net = self.setting.runtime.place(net)
        optimizer = torch.optim.Adam(net.parameters(), self.params.lr, betas=self.betas, fused=True)
        falling = "constant" if self.constant else self.schedule.rate
        return self.player(name, net, optimizer, falling, clip=self.clip)
