"""Tessera, this project's own: batches of mosaics of the pool's images and of views of inverted ones."""

import math
from typing import Any, Literal, Self

import torch
from torch import Tensor

from stages.datasets.images import augmented, to_unit
from stages.kinds import IMAGES, ONE_LABEL
from stages.methods import fast
from stages.methods.bases.method import POOL
from stages.methods.blocks.composer import Composer, Mixing, Part
from stages.methods.blocks.replay import Replay
from stages.support.sections import Positive, Rate


class Method(fast.Method):
    """S learns T's logits of mosaics, which `Composer` makes, and of images that Fast-Datafree inverts.

    Rings keep the newest images with what T said, and S draws from them. Where no image is inverted, only T's logits are asked
    for. S's optimiser is that of all rows.
    """

    class Params(fast.Method.Params, Mixing):
        """Those of Fast, without its warm-up, and of mixing; `student_steps` stand between two syntheses.

        Of a student's batch the part `synthetic` is inverted. Each of both rings holds `ring` images. `balance` evens the classes
        of tiles and of drawn mosaics.
        """

        student_steps: Positive = 200
        synthetic: Part = 0.5
        ring: Positive = 20000
        tau: Rate = 4.0
        warmup: Literal[0] = 0

        def smoke(self) -> Self:
            """A few small batches."""
            return super().smoke().model_copy(update={"student_steps": 2, "ring": 64})

    params: Params
    of_kind = frozenset({IMAGES, ONE_LABEL})
    sees = frozenset({POOL})

    @classmethod
    def needs(cls, params: Any) -> frozenset[str]:
        """What Fast needs, where images are inverted."""
        return super().needs(params) if params.synthetic else frozenset()

    @property
    def cached(self) -> bool:
        """T is asked about views of inverted images, never about the bare ones."""
        return False

    def build(self) -> None:
        """Fast where images are inverted, the composer, and both rings."""
        p, setting = self.params, self.setting
        if p.synthetic:
            super().build()
        count = setting.runtime.share(self.schedule.real, "the student's batch")
        self.inverted = round(p.synthetic * count)
        self.composed = count - self.inverted
        self.mosaics = Replay(p.ring, 1, setting, f"method.{self.name}.ring")
        self.views = Replay(p.ring, 1, setting, f"method.{self.name}.ring")
        self.memories |= {"mosaics": self.mosaics.ring, "views": self.views.ring}
        if self.composed:
            self.composer = Composer(self, "tiles", self.composed * setting.runtime.world, p)

    def step(self) -> dict[str, Tensor]:
        """Synthesise a batch of images, then learn."""
        scalars: dict[str, Tensor] = {}
        if self.inverted:
            with self.cost.timed("synthesis"):
                scalars = self.grow()
        with self.cost.timed("distillation"):
            left = self.schedule.steps - self.student.updates
            learned = [self.learn() for _ in range(min(self.params.student_steps, left))]
        return {**scalars, "kd": torch.stack(learned).mean()}

    def learn(self) -> Tensor:
        """One step of S on mosaics and inverted images that T has just seen, and on earlier ones; returns the loss."""
        self.student.anneal(self.student.updates / self.schedule.steps)
        parts = []
        if self.composed:
            self.mosaics.look(self.composer.next())
            parts.append(self.mosaics.draw(self.composed, self.params.balance))
        if self.inverted:
            rows = torch.randint(len(self.pool), (self.inverted,))
            kept = self.pool.rows["images"][rows.to(self.setting.runtime.device)]
            self.views.look(augmented(kept, self.schedule.augment))
            parts.append(self.views.draw(self.inverted))
        images, teacher = (torch.cat([part[name] for part in parts]) for name in ("images", "logits"))
        with self.student.turn():
            loss = self.distance(teacher, self.student(to_unit(images)))
            self.student.update(loss)
        return loss.detach()

    def samples(self, count: int) -> Tensor:
        """`count` images that S has seen, mosaics first, then inverted ones."""
        kinds = [replay for replay in (self.mosaics, self.views) if len(replay)]
        return torch.cat([to_unit(replay.draw(math.ceil(count / len(kinds)))["images"]) for replay in kinds])[:count]
