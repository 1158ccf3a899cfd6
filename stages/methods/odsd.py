"""ODSD: sampling to distill (arXiv:2307.16601). Choose its images with `curate.keep: odsd`.

The paper's formulas were not to be had; what follows keeps its structure.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.datasets.images import Moves
from stages.engine.players import Player, descend, turns
from stages.engine.teacher import FEATURES
from stages.kinds import IMAGES
from stages.losses import distillation
from stages.losses.distillation import by_place
from stages.losses.precision import full
from stages.losses.representation import across, two_views
from stages.methods.bases.method import POOL, MethodParams
from stages.methods.bases.method import Method as Base
from stages.methods.blocks.feature_watch import Observation, Watch
from stages.methods.blocks.noise import Adaptation
from stages.methods.blocks.terms import Terms, values, weighted
from stages.support.errors import UserError
from stages.support.sections import Positive, Rate, Weight

NOISE_LR, DIAGONAL = 1e-3, 0.9  # of the noise matrix
PARTS = 4  # a side, of an image of which every place has a label: its relations are between these


class Method(Base):
    """KL to low-noise targets, and relations between two views of each image in S and between S and T."""

    class Params(MethodParams):
        """`noise` is what happens to T's uncertain answers: nothing, `topk` of its logits, or a matrix that is learned.

        Of `topk`, `k` logits are kept, by default K / 2: fewer cut T's dark knowledge. `student_student` and `teacher_student`
        weigh the relations at temperature `contrast_tau`. With `mask_same_class`, images that T takes for one class are no
        negatives of each other; by default where K < B / 4. The schedule's `augment` makes both views.
        """

        tau: Rate = 4.0
        noise: Literal["none", "topk", "adaptation"] = "none"
        k: Positive | None = None
        student_student: Weight = 0.05
        teacher_student: Weight = 0.2
        contrast_tau: Rate = 0.1
        mask_same_class: bool | None = None

    params: Params
    of_kind = frozenset({IMAGES})
    sees = frozenset({POOL})
    nesterov = True

    @classmethod
    def needs(cls, params: Any) -> frozenset[str]:
        """The last layer, to whose inputs S's are mapped."""
        return frozenset({FEATURES})

    def build(self) -> None:
        """The bare pool, the spatial mapping from S's features to T's, and the noise matrix if one is asked for."""
        setting, p = self.setting, self.params
        if not self.schedule.of_pool.changes:
            raise UserError(
                f"method.{self.name}: two views of one image would be the same; give the task an `augment`, or the "
                "method one of its own (`schedule: {augment: {crop: 2}}`)"
            )
        self.k = p.k or math.ceil(setting.classes / 2)
        if self.k > setting.classes:
            raise UserError(f"method.{self.name}.k: {self.k} logits of {setting.classes} classes cannot be kept; lower it")
        self.pool = self.stream("pool", setting.data[POOL], self.schedule.batch)
        self.mask = p.mask_same_class if p.mask_same_class is not None else setting.classes < self.schedule.batch / 4
        self.watch = Watch(setting, self.student)
        width_s, width_t = (seen.pooled.shape[1] for seen in (self.watch.student_shape, self.watch.teacher_shape))
        mapping = setting.runtime.place(nn.Linear(width_s, width_t, bias=False))
        self.mapping = self.learner("mapping", mapping)
        self.learners: list[Player] = [self.student, self.mapping]
        if p.noise == "adaptation":
            net = setting.runtime.place(Adaptation(setting.classes, DIAGONAL, learned=True))
            adam = torch.optim.Adam(net.parameters(), NOISE_LR, fused=True)
            self.learners.append(self.player("noise", net, adam, falling="constant"))

    def step(self) -> dict[str, Tensor]:
        """One step of S and its companions, on two views of B images; T looks at the first view."""
        with self.cost.timed("distillation"):
            images = self.pool.next()["input"]
            moves = [Moves(len(images), self.schedule.of_pool) for _ in range(2)]
            both = torch.cat([move(images) for move in moves])
            mirrored = (
                torch.cat([move.mirrored for move in moves if move.mirrored is not None]) if self.schedule.of_pool.flip else None
            )
            teacher = self.watch.teacher(both[: len(images)])
            with turns(self.learners):
                terms = self.terms(teacher, self.watch.student(both), mirrored)
                descend(weighted(terms), *self.learners)
        return values(terms)

    def terms(self, teacher: Observation, student: Observation, mirrored: Tensor | None = None) -> Terms:
        """The terms of ODSD, from T on B views and S on these and B others; relations are between all ranks' images.

        `mirrored` (2B,) says which views are.
        """
        p, n, union = self.params, len(teacher.logits), self.setting.runtime.union
        targets = largest(teacher.logits, self.k) if p.noise == "topk" else teacher.logits
        u, v = (union(view) for view in F.normalize(full(self.mapping(places(student.entered, mirrored))), dim=1).chunk(2))
        first = None if mirrored is None else mirrored[:n]
        t = union(F.normalize(full(places(teacher.entered, first)), dim=1))
        alike = union(places([teacher.logits], first).argmax(1)) if self.mask else None
        terms: Terms = {
            "kd": (1.0, distillation.kl_divergence(targets, student.logits[:n], p.tau)),
            "student_student": (p.student_student, two_views(u, v, p.contrast_tau, alike)),
            "teacher_student": (p.teacher_student, across(u, t, p.contrast_tau, alike)),
        }
        if p.noise == "adaptation":
            answers, predicted = (by_place(logits) for logits in (student.logits[:n], teacher.logits))
            terms["noise"] = (1.0, self.players["noise"].net(answers, predicted.argmax(1)))
        return terms


def places(maps: Sequence[Tensor], mirrored: Tensor | None) -> Tensor:
    """Vectors (B, C) side by side; of maps (B, C, H, W) the means of 4 x 4 parts, (16 B, C).

    Parts of the B views that are `mirrored` stand where those of the others do.
    """
    if maps[0].dim() == 2:
        return torch.cat(list(maps), 1)
    parts = torch.cat([F.adaptive_avg_pool2d(x, PARTS) for x in maps], 1)
    if mirrored is not None:
        parts = torch.where(mirrored.to(parts.device).view(-1, 1, 1, 1), parts.flip(3), parts)
    return by_place(parts)


def largest(logits: Tensor, k: int) -> Tensor:
    """Logits (B, K, ...) of which all but the k largest of each place say nothing: probability 0."""
    kept = full(logits).topk(k, 1)
    floor = torch.full_like(full(logits), -1e4)  # finite, so that 0 times its logarithm is 0
    return floor.scatter(1, kept.indices, kept.values)
