"""Tessera, this project's own: batches of mosaics of the pool's images and of views of inverted ones."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from stages.datasets.images import augmented, to_unit
from stages.engine.players import Player, descend, turns
from stages.kinds import IMAGES, ONE_LABEL
from stages.losses.precision import full
from stages.methods import fast
from stages.methods.bases.method import POOL
from stages.methods.blocks.composer import Composer, Mixing, Part
from stages.methods.blocks.feature_watch import Watch
from stages.methods.blocks.replay import Replay
from stages.methods.blocks.terms import Terms, values, weighted
from stages.support.sections import Positive, Rate, Weight

GAUGE = 1024  # images of the pool, by whose features T's are standardised


class Method(fast.Method):
    """S learns T's logits of mosaics, which `Composer` makes, and of images that Fast-Datafree inverts.

    Rings keep the newest images with what T said, and S draws from them. Where no image is inverted and there is no hint, only
    T's logits are asked for. S's optimiser is that of all rows. What is off by default cost accuracy on natural images: to show
    an image more often than T looks (`reuse`), mosaics alone at first (`alone`), a `hint`, to `recalibrate`.
    """

    class Params(fast.Method.Params, Mixing):
        """Those of Fast, without its warm-up, and of mixing; `student_steps` stand between two syntheses.

        The run takes the part `share` of the schedule's student steps. Of a student's batch the part `synthetic` is inverted,
        once the part `alone` of the run is over, in which all are mosaics (until a synthesis begins). One in `reuse` of a batch
        is new; each of both rings holds `ring` images. `balance` evens the classes of tiles and of drawn mosaics. `hint` weighs
        a term on T's pooled feature of mosaics, which S gives through a linear map. In the end S's running statistics are taken
        anew from `recalibrate` batches, half of inverted images, half of bare ones of the pool.
        """

        share: Annotated[float, Field(gt=0, le=1)] = 1.0
        student_steps: Positive = 200
        alone: Part = 0.0
        reuse: Positive = 1
        synthetic: Part = 0.5
        ring: Positive = 20000
        tau: Rate = 4.0
        hint: Weight = 0.0
        recalibrate: Annotated[int, Field(ge=0)] = 0
        warmup: Literal[0] = 0

        def smoke(self) -> Self:
            """A few small batches."""
            return super().smoke().model_copy(update={"student_steps": 2, "ring": 64, "recalibrate": 2})

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
        """Fast where images are inverted, the composer, both rings, and what the hint needs."""
        p, setting = self.params, self.setting
        self.schedule = replace(self.schedule, steps=max(1, round(p.share * self.schedule.steps)))
        if p.synthetic:
            super().build()
        self.count = setting.runtime.share(self.schedule.real, "the student's batch")
        self.inverted = round(p.synthetic * self.count)
        self.begins = math.ceil(p.alone * self.schedule.steps) if self.inverted else self.schedule.steps
        self.learners: list[Player] = [self.student]
        watch = self._hint() if p.hint else None
        self.mosaics = Replay(p.ring, p.reuse, setting, f"method.{self.name}.ring", watch)
        self.views = Replay(p.ring, p.reuse, setting, f"method.{self.name}.ring")
        self.memories |= {"mosaics": self.mosaics.ring, "views": self.views.ring}
        piece = -(-(self.count - self.inverted or self.count) // p.reuse)  # at a time, as a mixed batch needs them
        self.composer = Composer(self, "tiles", piece * setting.runtime.world, p)
        self.bare = self.stream("bare", setting.data[POOL], self.schedule.real, weights=self.composer.weights)

    def step(self) -> dict[str, Tensor]:
        """Synthesise, once it is time to; then learn."""
        p, steps = self.params, self.schedule.steps
        scalars: dict[str, Tensor] = {}
        if self.student.updates >= self.begins:
            with self.cost.timed("synthesis"):
                scalars = self.grow()
        with self.cost.timed("distillation"):
            learned = [self.learn(bool(scalars)) for _ in range(min(p.student_steps, steps - self.student.updates))]
            if self.student.updates == steps and p.recalibrate:
                self.student.retake_statistics(self.plain())
        return scalars | {name: torch.stack([one[name] for one in learned]).mean() for name in learned[0]}

    def learn(self, mixed: bool) -> dict[str, Tensor]:
        """One step of S and its map on mosaics, with inverted images among them where the batch is `mixed`."""
        for player in self.learners:
            player.anneal(self.student.updates / self.schedule.steps)
        inverted = self.inverted if mixed else 0
        composed = self.count - inverted
        parts = []
        if composed:
            pieces = math.ceil(self.mosaics.new(composed) / self.composer.count)
            self.mosaics.look(torch.cat([self.composer.next() for _ in range(pieces)]))
            parts.append(self.mosaics.draw(composed, self.params.balance))
        if inverted:
            rows = torch.randint(len(self.pool), (self.views.new(inverted),))
            kept = self.pool.rows["images"][rows.to(self.setting.runtime.device)]
            self.views.look(augmented(kept, self.schedule.augment))
            parts.append(self.views.draw(inverted))
        inputs, teacher = (torch.cat([part[name] for part in parts]) for name in ("images", "logits"))
        with turns(self.learners):
            terms = self.learned(to_unit(inputs), teacher, parts[0].get("features"))
            descend(weighted(terms), *self.learners)
        return values(terms)

    def learned(self, inputs: Tensor, teacher: Tensor, features: Tensor | None) -> Terms:
        """The student's loss on inputs (B, C, H, W), from T's logits (B, K) and its pooled features (M, F) of the first M."""
        if features is None:
            return {"kd": (1.0, self.distance(teacher, self.student(inputs)))}
        student = self.watch.student(inputs)
        mapped = full(self.mapping(student.pooled[: len(features)]))
        return {
            "kd": (1.0, self.distance(teacher, student.logits)),
            "hint": (self.params.hint, (mapped - (full(features) - self.mean) / self.std).square().mean()),
        }

    def plain(self) -> Iterator[Tensor]:
        """The batches by which S's running statistics are taken in the end."""
        for _ in range(self.params.recalibrate):
            bare = self.bare.next()["input"]
            half = self.views.draw(len(bare) // 2)["images"] if len(self.views) else bare[:0]
            yield torch.cat([to_unit(half), bare[len(half) :]])

    def samples(self, count: int) -> Tensor:
        """`count` images that S has seen, mosaics first, then inverted ones."""
        kinds = [replay for replay in (self.mosaics, self.views) if len(replay)]
        return torch.cat([to_unit(replay.draw(-(-count // len(kinds)))["images"]) for replay in kinds])[:count]

    def _hint(self) -> Watch:
        """The map from S's pooled features to T's, and the mean and standard deviation of T's on the pool."""
        setting, pool = self.setting, self.setting.data[POOL]
        self.watch = Watch(setting, self.student)
        width_s, width_t = (seen.pooled.shape[1] for seen in (self.watch.student_shape, self.watch.teacher_shape))
        self.mapping = self.learner("mapping", setting.runtime.place(nn.Linear(width_s, width_t, bias=False)))
        self.learners.append(self.mapping)
        rows = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))[:GAUGE]
        batches = setting.kind.shown(pool.subset(rows), 64)
        with self.teacher.uncounted():
            features = torch.cat([full(self.watch.teacher(batch.to(setting.runtime.device)).pooled) for batch in batches])
        self.mean, std = features.mean(0), features.std(0)
        self.std = std.clamp(min=0.1 * std.mean())  # of a feature that hardly moves
        return self.watch
