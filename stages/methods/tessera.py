"""Tessera, this project's own: batches of mosaics of the pool's images and of views of inverted ones."""

import math
from typing import Annotated, Any, Self

import torch
from pydantic import Field
from torch import Tensor

from stages.datasets.images import augmented, to_uint8, to_unit
from stages.engine.players import in_eval
from stages.engine.teacher import BATCH_NORM, GRADIENT
from stages.kinds import IMAGES, ONE_LABEL
from stages.methods.bases.method import POOL, Tempered
from stages.methods.bases.method import Method as Base
from stages.methods.blocks.composer import Composer, Mixing
from stages.methods.blocks.replay import Replay
from stages.methods.blocks.ring_buffer import Ring
from stages.methods.fast import Inverter, Inverting
from stages.support.sections import Fraction, Positive, Rate


class Method(Base):
    """S learns T's logits of mosaics, which `Composer` makes, and of views of images that Fast-Datafree's `Inverter` makes.

    Rings keep the newest images with what T said, and S draws from them. Where no image is inverted, only T's logits are asked
    for. S's optimiser is that of all rows.
    """

    class Params(Inverting, Mixing, Tempered):
        """Between two batches of `batch` inverted images stand `student_steps` steps; the newest `pool` images are kept.

        Of a student's batch the part `synthetic` is inverted. Each of both rings holds `ring` images with T's logits. `balance`
        evens the classes of tiles and of drawn mosaics.
        """

        batch: Annotated[int, Field(ge=2)] = 256
        pool: Annotated[int, Field(ge=2)] = 130560
        student_steps: Positive = 200
        synthetic: Fraction = 0.5
        ring: Positive = 20000
        tau: Rate = 4.0

        def smoke(self) -> Self:
            """A few small batches."""
            small = {"batch": 16, "pool": 64, "steps": min(self.steps, 3), "student_steps": 2, "ring": 64}
            return self.model_copy(update=small)

    params: Params
    of_kind = frozenset({IMAGES, ONE_LABEL})
    sees = frozenset({POOL})

    @classmethod
    def needs(cls, params: Any) -> frozenset[str]:
        """What inversion needs, where images are inverted."""
        return frozenset({GRADIENT, BATCH_NORM}) if params.synthetic else frozenset()

    @property
    def iterations(self) -> int:
        """One outer iteration takes `student_steps` steps of the student."""
        return self.turns(self.params.student_steps)

    def build(self) -> None:
        """The inverter and the composer, where their images are wanted, and what they made."""
        p, setting = self.params, self.setting
        runtime, key = setting.runtime, f"method.{self.name}"
        count = runtime.share(self.schedule.real, "the student's batch")
        self.inverted = round(p.synthetic * count)
        self.composed = count - self.inverted
        if self.inverted:
            self.share = runtime.share(p.batch, "the synthesis batch")
            self.inverter = Inverter(self, p)
            self.pool = Ring(p.pool, {"images": (setting.form.shape, torch.uint8)}, runtime, f"{key}.pool")
            self.memories["pool"] = self.pool
        if self.composed:
            self.composer = Composer(self, "tiles", self.composed * runtime.world, p)
        self.mosaics, self.views = (Replay(p.ring, setting, f"{key}.ring") for _ in range(2))
        self.memories |= {"mosaics": self.mosaics.ring, "views": self.views.ring}

    def step(self) -> dict[str, Tensor]:
        """Invert a batch of images, then learn."""
        scalars: dict[str, Tensor] = {}
        if self.inverted:
            with self.cost.timed("synthesis"):
                scalars = self.invert()
        with self.cost.timed("distillation"):
            learned = [self.learn() for _ in range(self.left(self.params.student_steps))]
        return {**scalars, "kd": torch.stack(learned).mean()}

    def invert(self) -> dict[str, Tensor]:
        """One batch more of inverted images, every class equally often; returns scalars."""
        labels = self.setting.kind.aims(self.share)
        assert labels is not None  # a kind of one label
        with in_eval(self.student.net):
            images, scalars = self.inverter.invert(self.share, labels.to(self.setting.runtime.device), self.student)
        self.pool.append(images=to_uint8(images))
        self.cost.images += self.share
        return scalars

    def learn(self) -> Tensor:
        """One step of S on mosaics and views that T has just seen, and on earlier ones; returns the loss."""
        self.student.anneal(self.student.updates / self.schedule.steps)
        batch = []
        if self.composed:
            self.mosaics.add(self.composer.next())
            batch.append(self.mosaics.draw(self.composed, self.params.balance))
        if self.inverted:
            chosen = torch.randint(len(self.pool), (self.inverted,))
            kept = self.pool.rows["images"][chosen.to(self.setting.runtime.device)]
            self.views.add(augmented(kept, self.schedule.augment))
            batch.append(self.views.draw(self.inverted))
        images, teacher = (torch.cat([rows[name] for rows in batch]) for name in ("images", "logits"))
        with self.student.turn():
            loss = self.distance(teacher, self.student(to_unit(images)))
            self.student.update(loss)
        return loss.detach()

    def samples(self, count: int) -> Tensor:
        """`count` images that S has seen, mosaics first, then inverted ones."""
        kinds = [replay for replay in (self.mosaics, self.views) if len(replay)]
        return torch.cat([to_unit(replay.draw(math.ceil(count / len(kinds)))["images"]) for replay in kinds])[:count]
