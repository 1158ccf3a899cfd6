"""A data-free first stage that can be inverted: G imitates T's domain, S learns T on it, E finds the latents of an image."""

import math
from typing import Annotated

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from stages.engine.players import Player, in_eval, trainable
from stages.kinds import IMAGES, ONE_LABEL
from stages.losses import distillation, synthesis
from stages.losses.precision import full
from stages.methods.bases.method import MethodParams, Rescheduled
from stages.methods.bases.phased import Phased
from stages.methods.blocks.rank_statistics import union_moments
from stages.methods.blocks.terms import Terms, values, weighted
from stages.networks.encoder import Encoder
from stages.networks.generator import generator_for
from stages.networks.taps import BatchNorms
from stages.support.sections import Positive, Rate, Weight

PER_ITERATION = 5  # steps of S and E for one of G


class Invertible(Phased):
    """AuG-KD's stage 1 (arXiv:2403.07030). It is phase 0; subclasses add the phases after it."""

    class Params(MethodParams):
        """`data_free` iterations of the stage (0: none), on batches of `data_free_batch`; `balance` is in nats.

        All players have Adam.
        """

        data_free: Annotated[int, Field(ge=0)] = 40000
        data_free_batch: Annotated[int, Field(ge=2)] = 2048
        latent: Positive = 100
        generator_width: Positive = 64
        lr: Rate = 1e-3
        encoder_lr: Rate = 1e-4
        weight_decay: Weight = 1e-4
        balance: Weight = 8.7
        bn: Weight = 1.0

        @field_validator("schedule")
        @classmethod
        def _own_optimiser(cls, schedule: Rescheduled | None) -> Rescheduled | None:
            if schedule and (schedule.optimizer or schedule.lr or schedule.weight_decay):
                raise ValueError("the method has an optimiser of its own: set its `lr` and `weight_decay`")
            return schedule

    of_kind = frozenset({IMAGES, ONE_LABEL})
    params: Params

    def optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        """Adam, for S too, of the parameters that are not frozen."""
        return torch.optim.Adam(trainable(net), self.params.lr, weight_decay=self.params.weight_decay, fused=True)

    def build(self) -> None:
        """G and E, and an ear on the teacher's batch normalisation."""
        setting, p = self.setting, self.params
        self.norms = BatchNorms(self.teacher)
        self.batch = setting.runtime.share(p.data_free_batch, "the data-free batch")
        shape, width = setting.form.shape, p.generator_width
        self.generator = self.adam("generator", generator_for(p.latent, shape, width), p.lr, 0)
        self.encoder = self.adam("encoder", Encoder(p.latent, setting.classes, shape, width), p.encoder_lr)
        self.student.span = self.span(0)

    def data_free_step(self, number: int) -> dict[str, Tensor]:
        """One step of G, then five of S and E on fresh images."""
        with self.cost.timed("synthesis"), self.generator.turn():
            fake, _ = self.generate()
            terms = self.generator_terms(fake)
            self.generator.update(weighted(terms))
        with self.cost.timed("distillation"):
            learned = torch.stack([self.imitate_and_encode() for _ in range(PER_ITERATION)]).mean(0)
        return values(terms) | {"S": learned[0], "E": learned[1]}

    def generator_terms(self, fake: Tensor) -> Terms:
        """What G descends; S looks in eval mode."""
        p, runtime = self.params, self.setting.runtime
        teacher, heard = self.norms.ask(fake)
        with in_eval(self.student.net):
            student = self.student(fake)
        return {
            "adversarial": (1.0, -distillation.kl_divergence(teacher, student)),
            "confidence": (1.0, distillation.confidence(teacher)),
            "balance": (p.balance, distillation.balance(runtime.union(teacher), math.e)),
            "bn": (p.bn, synthesis.statistics_error(union_moments(heard, runtime), self.norms.running)),
        }

    def imitate_and_encode(self) -> Tensor:
        """A step of S down KL(T || S) and one of E towards the latents that an image was made of; their losses (2,)."""
        with torch.no_grad():
            fake, z = self.generate()
        teacher = self.teacher.logits(fake)
        self.cost.images += len(fake)
        with self.student.turn():
            loss = distillation.kl_divergence(teacher, self.student(fake))
            self.student.update(loss)
        with self.encoder.turn():
            mean, log_variance = self.encoder.net(fake, teacher.argmax(1))
            noise = torch.randn_like(mean).clamp(-10, 10)
            missed = synthesis.latent_error(mean + noise * (log_variance / 2).exp(), z, mean, log_variance)
            self.encoder.update(missed)
        return torch.stack([loss.detach(), missed.detach()])

    def generate(self) -> tuple[Tensor, Tensor]:
        """B images of G and the noise that they were made of."""
        z = torch.randn(self.batch, self.params.latent, device=self.setting.runtime.device)
        return full(self.generator(z)), z

    def adam(self, name: str, net: nn.Module, lr: float, phase: int | None = None) -> Player:
        """Register a player with Adam, whose rate is constant, or falls along a cosine over `phase`."""
        net = self.setting.runtime.place(net)
        adam = torch.optim.Adam(net.parameters(), lr, fused=True)
        if phase is None:
            return self.player(name, net, adam, falling="constant")
        return self.player(name, net, adam, span=self.span(phase))
