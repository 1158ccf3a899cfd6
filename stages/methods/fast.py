"""Fast-Datafree: Up to 100x Faster Data-free Knowledge Distillation (Fang et al., AAAI 2022, arXiv:2112.06253)."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from stages.datasets.images import augmented
from stages.engine.players import Player
from stages.losses.precision import full
from stages.losses.synthesis import Moments
from stages.methods.bases.inversion import Inversion
from stages.methods.bases.method import Method as Base
from stages.methods.blocks.guidance import Guidance, Guided, Lowest
from stages.methods.blocks.rank_statistics import settle, union_moments
from stages.methods.blocks.terms import Terms, values, weighted
from stages.networks.generator import generator_for, redraw
from stages.support.sections import Positive, Rate, Weight


class Inverting(Guided):
    """How a batch is inverted: Fast-10 of the paper for WRN-40-2.

    `lr` is the copy's, `latent_lr` the latents', the meta-generator's is lr * steps. `momentum` is that of the moving averages
    of the batch statistics.
    """

    steps: Positive = 10
    latent: Positive = 256
    generator_width: Positive = 64
    lr: Rate = 2e-3
    latent_lr: Rate = 0.01
    meta: Literal["fomaml", "reptile"] = "fomaml"
    adversarial: Weight = 1.1
    bn: Weight = 10.0
    confidence: Weight = 0.4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


class Inverter:
    """The meta-generator, a player of `method`, and the inversion of a batch from it."""

    def __init__(self, method: Base, p: Inverting):
        setting = method.setting
        self.method, self.p, self.runtime = method, p, setting.runtime
        self.guidance = Guidance(method.teacher, p)
        net = self.runtime.place(generator_for(p.latent, setting.form.shape, p.generator_width, narrow=True))
        optimizer = torch.optim.Adam(net.parameters(), p.lr * p.steps, betas=(0.5, 0.999), fused=True)
        self.generator = method.player("generator", net, optimizer, falling="constant")
        self.averages = Averages(p.momentum)
        method.memories["averages"] = self.averages

    def invert(self, count: int, labels: Tensor | None, student: Player | None) -> tuple[Tensor, dict[str, Tensor]]:
        """`count` images (n, C, S, S) in [0, 1] that T takes for `labels` (n,), and the last step's terms (algorithm 1).

        A few steps of Adam on a copy of G and on z; then one step of G. `student` is None where S may not be asked yet.
        """
        p, lowest = self.p, Lowest()
        z = torch.randn(count, p.latent, device=self.runtime.device, requires_grad=True)
        copy = {name: weight.detach().clone().requires_grad_() for name, weight in self.generator.net.named_parameters()}
        weights = list(copy.values())
        groups = [{"params": weights, "lr": p.lr}, {"params": [z], "lr": p.latent_lr}]
        optimizer = torch.optim.Adam(groups, betas=(0.5, 0.999), fused=True)
        gradients = [torch.zeros_like(weight) for weight in weights]
        for _ in range(p.steps):
            images = full(functional_call(self.generator.net, copy, (z,)))
            terms, statistics = self.terms(images, labels, student)
            loss = weighted(terms)
            lowest.offer(self.runtime.mean(loss), images)
            optimizer.zero_grad()
            loss.backward()
            settle(self.runtime, weights, [z])
            torch._foreach_add_(gradients, [weight.grad for weight in weights])  # type: ignore[misc]
            optimizer.step()
        if p.meta == "reptile":
            gradients = [start.detach() - end.detach() for start, end in zip(self.generator.parameters, weights, strict=True)]
        self.generator.follow(gradients)
        self.averages.update([(mean.detach(), var.detach()) for mean, var in statistics])
        return lowest.kept[0], values(terms)

    def terms(self, images: Tensor, labels: Tensor | None, student: Player | None) -> tuple[Terms, list[Moments]]:
        """Loss terms of one step, whose batch statistics are blended with the moving averages, and the batch's own."""
        view = augmented(images, self.method.schedule.augment)
        teacher, heard = self.guidance.norms.ask(view)
        statistics = union_moments(heard, self.runtime)
        return self.guidance.terms(view, teacher, labels, self.averages.blend(statistics), student), statistics

    def redraw(self) -> None:
        """New weights for the latent projection and the normalisation after it, for the sake of late diversity."""
        layers = self.generator.net.layers
        assert isinstance(layers, nn.Sequential)
        first = layers[:3]
        redraw(first)
        self.runtime.follow_first_([parameter.data for parameter in first.parameters()])
        for parameter in first.parameters():
            self.generator.optimizer.state.pop(parameter, None)


class Method(Inversion):
    """A meta-generator learns a start from which any batch is inverted in a few steps of a copy of it."""

    class Params(Inverting, Inversion.Params):
        """Before batch number `warmup` + `redraw`, counted from 1, the meta-generator's first layers are drawn anew, once."""

        warmup: Annotated[int, Field(ge=0)] = 20
        pool: Annotated[int, Field(ge=2)] = 130560
        redraw: Annotated[int, Field(ge=0)] = 120

    params: Params

    def build(self) -> None:
        """The pool and the inverter."""
        super().build()
        self.inverter = Inverter(self, self.params)

    def synthesise(self, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """One batch, inverted."""
        if self.batches + 1 == self.params.warmup + self.params.redraw:
            self.inverter.redraw()
        return self.inverter.invert(self.share, labels, self.asked)


class Averages:
    """Moving averages of batch statistics over synthesis batches: momentum feature regularisation."""

    def __init__(self, momentum: float):
        self.momentum = momentum
        self.past: list[Moments] = []

    def blend(self, batch: list[Moments]) -> list[Moments]:
        """mu times the averages plus (1 - mu) times the batch's statistics; the batch's own before the first update."""
        return [self._mix(now, before) for now, before in zip(batch, self.past, strict=True)] if self.past else batch

    def update(self, batch: list[Moments]) -> None:
        """Take in the statistics of one synthesis batch, which have no graph."""
        self.past = self.blend(batch)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        return {"past": [tuple(value.cpu() for value in pair) for pair in self.past]}

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.past = state["past"]

    def _mix(self, now: Moments, before: Moments) -> Moments:
        mu = self.momentum
        mean, var = (mu * old.to(new.device) + (1 - mu) * new for new, old in zip(now, before, strict=True))
        return mean, var
