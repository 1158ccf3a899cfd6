"""AuG-KD: anchor-based mixup generation for out-of-domain distillation (Tang et al., ICLR 2024, arXiv:2403.07030).

With the mends of its released code that a faithful reading asks for: T, not S, teaches in the mixup stage; the mask's penalty is
a mean; T and S see normalised images only; nothing is chosen on a test split.
"""

import math
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from stages import losses
from stages.datasets.images import to_unit
from stages.engine.players import Player, in_eval
from stages.errors import UserError
from stages.losses import full
from stages.methods import Phase, Phased
from stages.networks.encoder import Anchor, Encoder
from stages.networks.generator import generator_for
from stages.params import Positive, Rate, Weight
from stages.sections import Section
from stages.synthesis.terms import Terms, values, weighted
from stages.taps import batch_norms, look, moments, stored

COLLAPSED = 0.01  # a mean mask below this leaves every latent as it is
PER_ITERATION = 5  # steps of S and E for one of G in the data-free stage


class Method(Phased):
    """Three stages. Data-free: G imitates T's domain, S learns T on it, E inverts G. Anchor: A moves the latents of labelled
    images of the student's domain to where T is sure. Mixup: S learns from images that slide from the anchor to the real one.
    """

    class Params(Section):
        """`data_free` and `anchor_steps` are iterations of the first two stages (0: no such stage); the third has the task's.

        `balance` is in nats. `invariant` is the share of latents that A should leave alone. In the mixup stage the real image's
        part rises from `b` to 1 over the first `a` of the stage, evenly or in tenths; T's part is what is left (`mixed`) or 1/2.
        """

        data_free: Annotated[int, Field(ge=0)] = 40000
        anchor_steps: Annotated[int, Field(ge=0)] = 10000
        latent: Positive = 100
        generator_width: Positive = 64
        lr: Rate = 1e-3
        encoder_lr: Rate = 1e-4
        weight_decay: Weight = 1e-4
        balance: Weight = 8.7
        bn: Weight = 1.0
        invariant: Annotated[float, Field(gt=0, lt=1)] = 0.25
        invariance: Weight = 10.0
        uncertainty: Literal["entropy", "energy"] = "entropy"
        label: Weight = 0.1
        a: Annotated[float, Field(gt=0, le=1)] = 0.6
        b: Annotated[float, Field(ge=0, le=1)] = 0.2
        ramp: Literal["linear", "tenths"] = "linear"
        tau: Rate = 4.0
        kd_weight: Literal["mixed", "half"] = "mixed"

        def smoke(self) -> Self:
            """A few steps of each stage."""
            return self.model_copy(update={key: min(getattr(self, key), 3) for key in ("data_free", "anchor_steps")})

    params: Params
    shifted = True

    def optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        """Adam, for S too."""
        return torch.optim.Adam(net.parameters(), self.params.lr, weight_decay=self.params.weight_decay, fused=True)

    def build(self) -> None:
        """G, E and A, and the labelled images of the student's domain."""
        setting, p = self.setting, self.params
        assert setting.student_domain is not None
        self.norms = batch_norms(self.teacher)
        self.stored = stored(self.norms)
        batch = setting.schedule.batch
        self.domain = self.stream("student_domain", setting.student_domain, batch, setting.schedule.augment)
        self.batch = self.domain.share
        size, channels, classes = setting.size, setting.channels, setting.classes
        self.generator = self._adam("generator", generator_for(p.latent, size, channels, p.generator_width), p.lr, 0)
        self.encoder = self._adam("encoder", Encoder(p.latent, classes, size, channels, p.generator_width), p.encoder_lr)
        self.anchor = self._adam("anchor", Anchor(p.latent, classes), p.lr, 1)
        self.student.span = self.span(0)
        self.calm = Calm()
        self.memories["calm"] = self.calm

    def phases(self) -> list[Phase]:
        """Data-free, anchor, mixup; without a second or a way to use it, no second stage."""
        p = self.params
        anchor = p.anchor_steps if p.b < 1 else 0
        return [(p.data_free, self.data_free_step), (anchor, self.anchor_step), (self.setting.schedule.steps, self.mixup_step)]

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
        p = self.params
        teacher, heard = look(self.teacher, fake, self.norms)
        with in_eval(self.student.net):
            student = self.student(fake)
        return {
            "adversarial": (1.0, -losses.kl_divergence(teacher, student)),
            "confidence": (1.0, losses.confidence(teacher)),
            "balance": (p.balance, losses.balance(teacher, math.e)),
            "bn": (p.bn, losses.statistics_error(moments(heard), self.stored)),
        }

    def imitate_and_encode(self) -> Tensor:
        """A step of S down KL(T || S) and one of E towards the latents that an image was made of; their losses (2,)."""
        with torch.no_grad():
            fake, z = self.generate()
        teacher = self.teacher.logits(fake)
        self.cost.images += len(fake)
        with self.student.turn():
            loss = losses.kl_divergence(teacher, self.student(fake))
            self.student.update(loss)
        with self.encoder.turn():
            mean, log_variance = self.encoder.net(fake, teacher.argmax(1))
            noise = torch.randn_like(mean).clamp(-10, 10)
            missed = losses.latent_error(mean + noise * (log_variance / 2).exp(), z, mean, log_variance)
            self.encoder.update(missed)
        calm = losses.energy(teacher).median()
        self.setting.runtime.average_([calm])
        self.calm.offer(calm)
        return torch.stack([loss.detach(), missed.detach()])

    def anchor_step(self, number: int) -> dict[str, Tensor]:
        """One step of A; the gradient passes through T and G, which stay as they are."""
        if number == 0:
            self.align_ranks()
        with self.cost.timed("distillation"):
            batch = self.domain.next()
            with self.anchor.turn():
                z, mask = self.anchor.net(self.encode(batch.images, batch.labels), batch.labels)
                with in_eval(self.generator.net):
                    logits = self.teacher(full(self.generator(z)))
                terms: Terms = {
                    "uncertainty": (1.0, self.uncertainty(logits)),
                    "invariance": (self.params.invariance, losses.invariance(mask, self.params.invariant)),
                    "label": (self.params.label, F.cross_entropy(full(logits), batch.labels)),
                }
                self.anchor.update(weighted(terms))
        return values(terms) | {"mask": mask.detach().mean()}

    def mixup_step(self, number: int) -> dict[str, Tensor]:
        """One step of S on labelled images and on their mixtures with their anchors, on which T teaches too."""
        f = self.real_part(number)
        if number == 0:
            self.begin_mixup()
        kd_weight = 0.5 if self.params.kd_weight == "half" else 1 - f
        with self.cost.timed("distillation"):
            batch = self.domain.next()
            if not kd_weight:  # real images alone, and T has no say: a second copy of them would change nothing
                with self.student.turn():
                    label = F.cross_entropy(full(self.student(batch.images)), batch.labels)
                    self.student.update(0.5 * label)
                return {"label": label.detach(), "f": label.new_tensor(f)}
            mixed, mask = self.mixtures(batch.images, batch.labels, f)
            teacher = self.teacher.logits(mixed)
            self.cost.images += len(mixed) * (f < 1)
            with self.student.turn():
                terms = self.mixup_terms(self.student(torch.cat([batch.images, mixed])), teacher, batch.labels, kd_weight)
                self.student.update(weighted(terms))
        return values(terms) | {"f": mask.new_tensor(f), "mask": mask.mean(), "uncertainty": losses.entropy(teacher).mean()}

    def mixup_terms(self, student: Tensor, teacher: Tensor, labels: Tensor, kd_weight: float) -> Terms:
        """Of S's logits (2B, K) of real images and mixtures, T's (B, K) of the mixtures, and the classes (B,) of both."""
        student = full(student)
        return {
            "label": (0.5, F.cross_entropy(student, labels.repeat(2))),
            "kd": (kd_weight, losses.kl_divergence(teacher, student[len(labels) :], self.params.tau)),
        }

    def begin_mixup(self) -> None:
        """A fresh optimiser for S, with a cosine over the last stage. Raises UserError where A's mask collapsed."""
        self.align_ranks()
        self.student.restart(self.optimizer(self.student.net), self.span(2))
        if self.phases()[1][0]:
            assert isinstance(self.anchor.net, Anchor)
            mask = self.anchor.net.masks(torch.arange(self.setting.classes, device=self.setting.runtime.device)).mean().item()
            if mask < COLLAPSED:
                raise UserError(
                    f"augkd: the anchor's mask collapsed to a mean of {mask:.4f}, so no latent is rewritten; raise "
                    "method.augkd.invariance or anchor_steps"
                )

    def align_ranks(self) -> None:
        """Give all ranks the same running statistics, by which G, E and A normalise from here on."""
        for player in self.players.values():
            player.align_ranks()

    @torch.no_grad()
    def mixtures(self, images: Tensor, labels: Tensor, f: float) -> tuple[Tensor, Tensor]:
        """(1 - f) G((1 - f) z' + f z) + f x of images x (B, C, S, S) with classes (B,), and the mask (B, latent)."""
        if f == 1:
            return images, images.new_zeros(len(images), self.params.latent)
        z = self.encode(images, labels)
        anchored, mask = z, torch.zeros_like(z)
        if self.phases()[1][0]:
            with in_eval(self.anchor.net):
                anchored, mask = self.anchor.net(z, labels)
        with in_eval(self.generator.net):
            made = full(self.generator((1 - f) * anchored + f * z))
        return (1 - f) * made + f * images, mask

    def real_part(self, number: int) -> float:
        """f in [b, 1] at a step of the mixup stage."""
        return ramp(number / self.setting.schedule.steps, self.params.a, self.params.b, self.params.ramp)

    def uncertainty(self, logits: Tensor) -> Tensor:
        """Mean U of T's logits (B, K): entropy in parts of ln K, or how far the energy lies above that of G's own images."""
        if self.params.uncertainty == "entropy":
            return losses.entropy(logits).mean() / math.log(logits.shape[1])
        return F.relu(losses.energy(logits) - self.calm.value).mean()

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean latents (B, latent) of images with classes (B,); nothing is drawn."""
        with in_eval(self.encoder.net), torch.no_grad():
            return full(self.encoder.net(images, labels)[0])

    def generate(self) -> tuple[Tensor, Tensor]:
        """B images of G and the noise that they were made of."""
        z = torch.randn(self.batch, self.params.latent, device=self.setting.runtime.device)
        return full(self.generator(z)), z

    def samples(self, count: int) -> Tensor | None:
        """What T's anchors of the first `count` images of the student's domain look like; None where S saw no mixture."""
        if self.params.b == 1:
            return None
        assert self.setting.student_domain is not None
        device = self.setting.runtime.device
        chosen = self.setting.student_domain.subset(torch.arange(min(count, len(self.setting.student_domain))))
        images = to_unit(torch.cat(list(chosen.all_batches(256))).to(device))
        return self.mixtures(images, chosen.labels.to(device), 0.0)[0]

    def _adam(self, name: str, net: nn.Module, lr: float, phase: int | None = None) -> Player:
        net = self.setting.runtime.place(net)
        adam = torch.optim.Adam(net.parameters(), lr, fused=True)
        if phase is None:
            return self.player(name, net, adam, constant=True)
        return self.player(name, net, adam, span=self.span(phase))


def ramp(progress: float, a: float, b: float, kind: str = "linear") -> float:
    """The real image's part: from `b` at 0 to 1 at `a` of the stage and after; `tenths` holds it for a tenth of the way."""
    way = min(progress / a, 1.0)
    return b + (1 - b) * (math.floor(10 * way) / 10 if kind == "tenths" else way)


class Calm:
    """The median energy of T on G's images, of the last batch: what counts as sure."""

    def __init__(self) -> None:
        self.value = torch.zeros(())

    def offer(self, value: Tensor) -> None:
        """Remember."""
        self.value = value.detach()

    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint needs."""
        return {"value": self.value.cpu()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self.value = state["value"]
