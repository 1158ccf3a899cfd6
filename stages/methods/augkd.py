"""AuG-KD: anchor-based mixup generation for out-of-domain distillation (Tang et al., ICLR 2024, arXiv:2403.07030).

With the mends of its released code that a faithful reading asks for: T, not S, teaches in the mixup stage; the mask's penalty is
a mean; T and S see normalised images only; nothing is chosen on a test split.
"""

import math
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from stages.datasets.images import to_unit
from stages.engine.teacher import BATCH_NORM, GRADIENT
from stages.losses import distillation, synthesis
from stages.losses.precision import full
from stages.methods._invertible import Invertible
from stages.methods._latents import Latents, ramp
from stages.methods.bases.phased import Phase
from stages.methods.blocks.terms import Terms, values, weighted
from stages.networks.encoder import Anchor
from stages.settings.task import STUDENT_DOMAIN
from stages.support.sections import Rate, Weight
from stages.support.seeds import shuffled


class Method(Invertible):
    """Three stages. Data-free: G imitates T's domain, S learns T on it, E inverts G. Anchor: A moves the latents of labelled
    images of the student's domain to where T is sure. Mixup: S learns from images that slide from the anchor to the real one.
    """

    class Params(Invertible.Params):
        """`anchor_steps` are iterations of the second stage (0: no such stage); the third has the task's.

        `invariant` is the share of latents that A should leave alone. In the mixup stage the real image's part rises from `b` to
        1 over the first `a` of the stage, evenly; T's part is what is left (`mixed`) or 1/2.
        """

        anchor_steps: Annotated[int, Field(ge=0)] = 10000
        invariant: Annotated[float, Field(gt=0, lt=1)] = 0.25
        invariance: Weight = 10.0
        label: Weight = 0.1
        a: Annotated[float, Field(gt=0, le=1)] = 0.6
        b: Annotated[float, Field(ge=0, le=1)] = 0.2
        tau: Rate = 4.0
        kd_weight: Literal["mixed", "half"] = "mixed"

        def smoke(self) -> Self:
            """A few steps of each stage."""
            few = {key: min(getattr(self, key), 3) for key in ("data_free", "anchor_steps")}
            return self.model_copy(update={**few, "data_free_batch": 16})

    params: Params
    sees = frozenset({STUDENT_DOMAIN})

    @classmethod
    def needs(cls, params: Params) -> frozenset[str]:
        """For G: T's gradient and running statistics; nothing where there is no data-free stage and no mixture."""
        return frozenset({GRADIENT, BATCH_NORM}) if params.data_free or params.b < 1 else frozenset()

    def build(self) -> None:
        """The labelled images of the student's domain, and A."""
        super().build()
        setting, p = self.setting, self.params
        self.domain = self.stream("student_domain", setting.data[STUDENT_DOMAIN], self.schedule.batch, self.schedule.augment)
        self.anchor = self.adam("anchor", Anchor(p.latent, setting.classes), p.lr, 1)
        self.latents = Latents(self.encoder, self.anchor if self.phases()[1][0] else None, self.generator)

    def phases(self) -> list[Phase]:
        """Data-free, anchor, mixup; without a second or a way to use it, no second stage."""
        p = self.params
        anchor = p.anchor_steps if p.b < 1 else 0
        return [(p.data_free, self.data_free_step), (anchor, self.anchor_step), (self.schedule.steps, self.mixup_step)]

    def anchor_step(self, number: int) -> dict[str, Tensor]:
        """One step of A; the gradient passes through T and G, which stay as they are."""
        with self.cost.timed("distillation"):
            batch = self.domain.next()
            images, labels = batch["input"], batch["label"]
            with self.anchor.turn():
                z, mask = self.anchor.net(self.latents.encode(images, labels), labels)
                logits = self.teacher(self.latents.decode(z))
                terms: Terms = {
                    "uncertainty": (1.0, distillation.entropy(logits).mean() / math.log(logits.shape[1])),
                    "invariance": (
                        self.params.invariance,
                        synthesis.invariance(self.setting.runtime.union(mask), self.params.invariant),
                    ),
                    "label": (self.params.label, F.cross_entropy(full(logits), labels)),
                }
                self.anchor.update(weighted(terms))
        return values(terms) | {"mask": mask.detach().mean()}

    def mixup_step(self, number: int) -> dict[str, Tensor]:
        """One step of S on labelled images and on their mixtures with their anchors, on which T teaches too."""
        if number == 0:
            with self.student.turn():  # so that the optimiser finds the parameters that are to be trained
                self.student.restart(self.optimizer(self.student.net), self.span(2))
            self.latents.check_masks(self.setting.classes)
        f = self.real_part(number)
        with self.cost.timed("distillation"):
            batch = self.domain.next()
            images, labels = batch["input"], batch["label"]
            weight = 0.5 if self.params.kd_weight == "half" else 1 - f
            if not weight:  # real images alone, and T has no say: a second copy of them would change nothing
                with self.student.turn():
                    label = F.cross_entropy(full(self.student(images)), labels)
                    self.student.update(0.5 * label)
                return {"label": label.detach(), "f": label.new_tensor(f)}
            mixed, mask = self.latents.mixtures(images, labels, f)
            teacher = self.teacher.logits(mixed)
            self.cost.images += len(mixed) * (f < 1)
            with self.student.turn():
                terms = self.mixup_terms(self.student(torch.cat([images, mixed])), teacher, labels, weight)
                self.student.update(weighted(terms))
        sure = distillation.entropy(teacher).mean()
        return values(terms) | {"f": mask.new_tensor(f), "mask": mask.mean(), "uncertainty": sure}

    def mixup_terms(self, student: Tensor, teacher: Tensor, labels: Tensor, weight: float) -> Terms:
        """The terms of the mixup stage, from S's logits (2B, K), T's (B, K) of the mixtures, and the classes (B,) of both."""
        student = full(student)
        return {
            "label": (0.5, F.cross_entropy(student, labels.repeat(2))),
            "kd": (weight, distillation.kl_divergence(teacher, student[len(labels) :], self.params.tau)),
        }

    def real_part(self, number: int) -> float:
        """f in [b, 1] at a step of the mixup stage."""
        return ramp(number / self.schedule.steps, self.params.a, self.params.b)

    def samples(self, count: int) -> Tensor | None:
        """What T's anchors of `count` images of the student's domain look like; None where S saw no mixture."""
        if self.params.b == 1:
            return None
        from torchvision.transforms.functional import center_crop

        domain, device = self.setting.data[STUDENT_DOMAIN], self.setting.runtime.device
        chosen = domain.subset(shuffled(len(domain))[:count])
        images = center_crop(to_unit(chosen.all_inputs().to(device)), list(self.setting.form.shape[1:]))
        return self.latents.mixtures(images, chosen.label.to(device), 0.0)[0]
