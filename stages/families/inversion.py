"""Inversion into a pool: a batch of images is optimised against the teacher and joins a pool that the student learns from."""

import math
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from stages.datasets.images import augmented, to_uint8, to_unit
from stages.engine.players import in_eval
from stages.engine.teacher import BATCH_NORM, GRADIENT
from stages.families.method import Method, MethodParams, Seen
from stages.families.ring import Ring, Row
from stages.families.terms import Terms
from stages.kinds import IMAGES
from stages.losses import distillation, synthesis
from stages.losses.precision import full
from stages.losses.synthesis import Moments
from stages.networks.taps import batch_norms, look, stored
from stages.support.sections import Positive, Rate, Weight


class Lowest:
    """Tensors of the step with the lowest loss so far: copies, chosen without making a GPU wait."""

    def __init__(self) -> None:
        self.loss: Tensor | None = None
        self.kept: list[Tensor] = []

    def offer(self, loss: Tensor, *tensors: Tensor) -> None:
        """Keep copies of `tensors` if `loss`, which is all ranks', is lower than every one before."""
        loss, tensors = loss.detach(), tuple(tensor.detach() for tensor in tensors)
        if self.loss is None:
            self.loss, self.kept = loss, [tensor.clone() for tensor in tensors]
            return
        better = loss < self.loss
        self.loss = torch.where(better, loss, self.loss)
        self.kept = [torch.where(better, new, old) for new, old in zip(tensors, self.kept, strict=True)]


class Inversion(Method):
    """One batch of images, then `student_steps` steps of S on the pool. Subclasses write `synthesise`.

    KL(T || S) at temperature `tau`, times tau^2. The first iteration makes `warmup` batches more, so that S does not start on a
    handful of images; until the last of them is made, S is not asked.

    Terms that are statistics of a batch are of the union of all ranks' batches; batch normalisation in a generator and in S is of
    each rank's own.
    """

    class Params(MethodParams):
        """`batch` images are optimised together for `steps` steps; the pool holds the newest `pool` images."""

        batch: Annotated[int, Field(ge=2)] = 256
        steps: Positive
        student_steps: Positive = 400
        warmup: Annotated[int, Field(ge=0)] = 0
        pool: Annotated[int, Field(ge=2)] = 51200
        tau: Rate = 20.0
        lr: Rate
        adversarial: Weight
        bn: Weight
        confidence: Weight

        def smoke(self) -> Self:
            """A few small batches."""
            return self.model_copy(update={"batch": 16, "steps": min(self.steps, 3), "student_steps": 5, "warmup": 1, "pool": 64})

    of_kind = frozenset({IMAGES})
    params: Params

    @classmethod
    def needs(cls, params: Params) -> frozenset[str]:
        """Images are made through T, close to T's running statistics."""
        return frozenset({GRADIENT, BATCH_NORM})

    def build(self) -> None:
        """The pool, and an ear on the teacher's batch normalisation."""
        setting, p = self.setting, self.params
        self.norms = batch_norms(self.teacher)
        self.stored: list[Moments] = stored(self.norms)
        self.share = setting.runtime.share(p.batch, "the synthesis batch")
        image = setting.form.shape
        form: dict[str, Row] = {"images": (image, torch.uint8)}
        if self.cached:
            form["logits"] = (setting.kind.answer, torch.get_default_dtype())
        self.pool = Ring(p.pool, form, setting.runtime, f"method.{self.name}.pool")
        self.memories["pool"] = self.pool

    @property
    def cached(self) -> bool:
        """Whether the pool keeps T's logits: where S sees its images as they are."""
        return not self.schedule.augment.changes

    @property
    def iterations(self) -> int:
        """One outer iteration takes `student_steps` steps of the student."""
        return math.ceil(self.schedule.steps / self.params.student_steps)

    @property
    def batches(self) -> int:
        """Batches synthesised so far."""
        return self.pool.total // self.params.batch

    @property
    def warm(self) -> bool:
        """Whether S may be asked: from the last batch of the warm-up on."""
        return self.batches + 1 >= self.params.warmup

    def step(self) -> dict[str, Tensor]:
        """Synthesise, then learn."""
        with self.cost.timed("synthesis"):
            for _ in range(1 if self.batches else 1 + self.params.warmup):
                scalars = self.grow()
        with self.cost.timed("distillation"):
            passes = self.pool.passes(self.schedule.batch)
            learned = [self.imitate([[self.student_batch(next(passes))]]) for _ in range(self.params.student_steps)]
        return scalars | {"S": torch.stack(learned).mean()}

    def grow(self) -> dict[str, Tensor]:
        """One batch more for the pool; returns scalars."""
        with in_eval(self.student.net):
            images, scalars = self.synthesise(self.targets())
        pixels = to_uint8(images)
        self.pool.append(images=pixels, **({"logits": self.teacher.logits(to_unit(pixels))} if self.cached else {}))
        self.cost.images += self.share
        return scalars

    def synthesise(self, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """One batch of images (B, C, S, S) in [0, 1] that T should take for `labels` (B,), and scalars of the last step.

        Without labels T should be sure of what it sees, whatever that is.
        """
        raise NotImplementedError

    def look(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """T's logits of `images` and what entered each of its batch-norm layers on the way."""
        return look(self.teacher, images, self.norms)

    def guidance(self, view: Tensor, teacher: Tensor, labels: Tensor | None, statistics: list[Moments]) -> Terms:
        """Confidence and batch-norm terms and, once S may be asked, the adversarial term, of what T says of `view`."""
        p = self.params
        terms: Terms = {
            "confidence": (p.confidence, F.cross_entropy(full(teacher), teacher.argmax(1) if labels is None else labels)),
            "bn": (p.bn, synthesis.statistics_mismatch(statistics, self.stored)),
        }
        if p.adversarial and self.warm:
            terms["adversarial"] = (p.adversarial, -self.opposition(teacher, self.student(view)))
        return terms

    def opposition(self, teacher: Tensor, student: Tensor) -> Tensor:
        """How far S is from T, where the images should be such that it is far."""
        return distillation.kl_where_agreed(teacher, student)

    def targets(self) -> Tensor | None:
        """Labels (B,) for one batch, where inputs have one each."""
        labels = self.setting.kind.aims(self.share)
        return None if labels is None else labels.to(self.setting.runtime.device)

    def student_batch(self, rows: Tensor) -> Seen:
        """The images of the pool at `rows`, augmented as the task says."""
        augment = self.schedule.augment
        images = to_unit(augmented(self.pool.rows["images"][rows], augment))
        return images, self.pool.rows["logits"][rows] if self.cached else None

    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """KL(T || S) at the temperature tau, times tau^2."""
        return distillation.kl_divergence(teacher, student, self.params.tau)

    def samples(self, count: int) -> Tensor:
        """`count` images of the pool; any rank may ask alone, so none waits for another."""
        rows = torch.randperm(len(self.pool))[:count].to(self.setting.runtime.device)
        return to_unit(self.pool.rows["images"][rows])
