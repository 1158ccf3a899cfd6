"""Inversion into a pool: a batch of images is optimised against the teacher and joins a pool that the student learns from."""

from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor

from stages.datasets.images import augmented, to_uint8, to_unit
from stages.engine.players import Player, in_eval
from stages.engine.teacher import BATCH_NORM, GRADIENT
from stages.kinds import IMAGES
from stages.methods.bases.method import Method, Seen, Tempered
from stages.methods.blocks.ring_buffer import Ring, RowType
from stages.support.sections import Positive, Rate


class Inversion(Method):
    """One batch of images, then `student_steps` steps of S on the pool. Subclasses write `synthesise`.

    The first iteration makes `warmup` batches more, so that S does not start on a handful of images.
    """

    class Params(Tempered):
        """`batch` images are optimised together for `steps` steps; the pool holds the newest `pool` images."""

        batch: Annotated[int, Field(ge=2)] = 256
        steps: Positive
        student_steps: Positive = 400
        warmup: Annotated[int, Field(ge=0)] = 0
        pool: Annotated[int, Field(ge=2)] = 125440
        tau: Rate = 20.0
        lr: Rate

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
        """The pool."""
        setting, p = self.setting, self.params
        self.share = setting.runtime.share(p.batch, "the synthesis batch")
        image = setting.form.shape
        form: dict[str, RowType] = {"images": (image, torch.uint8)}
        if self.cached:
            form["logits"] = (setting.kind.answer, torch.get_default_dtype())
        self.pool = Ring(p.pool, form, setting.runtime, f"method.{self.name}.pool")
        self.memories["pool"] = self.pool

    @property
    def cached(self) -> bool:
        """Whether the pool keeps T's logits: where S sees its images as they are."""
        return not self.schedule.augment.changes

    @property
    def asked(self) -> Player | None:
        """S where it may be asked what it knows: from the last batch of the warm-up on."""
        return self.student if self.batches + 1 >= self.params.warmup else None

    @property
    def iterations(self) -> int:
        """One outer iteration takes `student_steps` steps of the student."""
        return self.turns(self.params.student_steps)

    @property
    def batches(self) -> int:
        """Batches synthesised so far."""
        return self.pool.total // self.params.batch

    def step(self) -> dict[str, Tensor]:
        """Synthesise a batch of images, then take the student's steps."""
        with self.cost.timed("synthesis"):
            for _ in range(1 if self.batches else 1 + self.params.warmup):
                scalars = self.grow()
        with self.cost.timed("distillation"):
            passes = self.pool.passes(self.schedule.batch)
            learned = [self.imitate([[self.student_batch(next(passes))]]) for _ in range(self.left(self.params.student_steps))]
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

    def targets(self) -> Tensor | None:
        """Labels (B,) for one batch, where inputs have one each."""
        labels = self.setting.kind.aims(self.share)
        return None if labels is None else labels.to(self.setting.runtime.device)

    def student_batch(self, rows: Tensor) -> Seen:
        """The images of the pool at `rows`, augmented as the task says."""
        augment = self.schedule.augment
        images = to_unit(augmented(self.pool.rows["images"][rows], augment))
        return images, self.pool.rows["logits"][rows] if self.cached else None

    def samples(self, count: int) -> Tensor:
        """`count` images of the pool; any rank may ask alone, so none waits for another."""
        rows = torch.randperm(len(self.pool))[:count].to(self.setting.runtime.device)
        return to_unit(self.pool.rows["images"][rows])
