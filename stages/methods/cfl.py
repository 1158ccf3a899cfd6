"""Common feature learning: one student of several teachers (Luo et al. 2019, arXiv:1906.10546), on the OOD pool."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.engine.players import descend, judged, turns
from stages.engine.teacher import MAPS
from stages.kinds import IMAGES, ONE_LABEL
from stages.losses import distillation
from stages.losses.common_features import apart, mmd, reference_mmd
from stages.losses.precision import full
from stages.methods.bases.method import POOL, MethodParams
from stages.methods.bases.method import Method as Base
from stages.methods.blocks.terms import Terms, values, weighted
from stages.networks.common_feature import Common, CommonFeature, pooled
from stages.networks.taps import listening, stages
from stages.support.sections import Positive, Rate, Weight
from stages.support.seeds import shuffled

HELD, MOST = 10, 500  # one image in so many, and no more than that, is held out to measure the common space
GAUGE, BATCH = 20, 64  # batches, and images of one, from which the variance of a teacher's maps is taken
SHOWN = 100  # images in the figure of the space


class Method(Base):
    """KL to all teachers' logits, and a space in which the student's last stage imitates the teachers'.

    The student, adaptors and extractor learn to make the features alike (MMD), and all but the student to rebuild the teachers'
    maps from theirs, which alone keeps the space from falling into one point. What the space has become is measured on images
    that were held out.
    """

    class Params(MethodParams):
        """`mmd`, `reconstruction` and `pair` weigh the terms on features; the space has `hidden` channels.

        Rebuilding is judged in units of the maps' variance. `targets`: one KL over the logits of all teachers, or the mean of
        one each. `pair` pulls features of one image together, teachers standing still; `detach`: the teachers' features do not
        move towards the student's. `reference`: the released code's kernels, and plain squared errors.
        """

        tau: Rate = 1.0
        mmd: Weight = 1.0
        reconstruction: Weight = 1.0
        pair: Weight = 0.0
        hidden: Positive = 128
        targets: Literal["concat", "per_task"] = "concat"
        detach: bool = False
        reference: bool = False

    params: Params
    of_kind = frozenset({IMAGES, ONE_LABEL})
    sees = frozenset({POOL})

    @classmethod
    def needs(cls, params: Params) -> frozenset[str]:
        """The last stage of every network."""
        return frozenset({MAPS})

    def build(self) -> None:
        """One shuffled stream of the images that are not held out, and the common space."""
        setting, (given,) = self.setting, self.sees
        images = setting.data[given]
        augment = self.schedule.of_pool if given == POOL else self.schedule.augment
        order = shuffled(len(images))
        count = min(MOST, max(2, len(images) // HELD))
        self.held, rest = images.subset(order[:count]), images.subset(order[count:].sort().values)
        self.images = self.stream("images", rest, self.schedule.real, augment)
        self.tapped = [stages(net)[-1] for net in (*self.teacher.parts, self.student.net)]
        some = setting.kind.shown(images.subset(order[count:][: GAUGE * BATCH]), BATCH)
        with judged(self.student.net), self.teacher.uncounted():
            observed = [self.observe(batch.to(setting.runtime.device)) for batch in some]
        maps = [torch.cat([full(one.maps[i]) for one in observed]) for i in range(len(self.tapped))]
        *self.variances, _ = (x.var((0, 2, 3), correction=0).mean().clamp(min=1e-12) for x in pooled(maps))
        *theirs, own = (x.shape[1] for x in maps)
        space = setting.runtime.place(CommonFeature(own, theirs, self.params.hidden))
        self.learners = [self.student, self.learner("space", space)]

    def step(self) -> dict[str, Tensor]:
        """One step of the student and the space."""
        with self.cost.timed("distillation"), turns(self.learners):
            terms = self.terms(self.observe(self.images.next()["input"]))
            descend(weighted(terms), *self.learners)
        return values(terms)

    def observe(self, images: Tensor) -> "Observed":
        """What teachers, without a graph, and student say of images, and the last stages' maps, the student's last."""
        with listening(self.tapped, outputs=True) as maps:
            with torch.no_grad():
                teacher = self.teacher(images, eager=True)
            return Observed(teacher, self.student.net.forward(images), maps)

    def terms(self, observed: "Observed") -> Terms:
        """Soft targets, and what brings the features together."""
        p, union = self.params, self.setting.runtime.union
        *theirs, own = observed.maps
        common = self.players["space"].net(own, theirs)
        student, distance = union(common.student), reference_mmd if p.reference else mmd
        alike = [distance(student, union(x.detach() if p.detach else x)) for x in common.teachers]
        flat = full(common.student).flatten(1)
        pairs = [1 - F.cosine_similarity(flat, full(x.detach()).flatten(1)) for x in common.teachers]
        rebuilt = self.errors(common)
        errors = rebuilt if p.reference else [error / unit for error, unit in zip(rebuilt, self.variances, strict=True)]
        return {
            "kd": (1.0, self.distance(observed.teacher, observed.student)),
            "mmd": (p.mmd, torch.stack(alike).sum()),
            "reconstruction": (p.reconstruction, torch.stack(errors).sum()),
            "pair": (p.pair, torch.cat(pairs).mean()),
        }

    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """KL(T || S) over all classes, or the mean over teachers of KL over the classes of each."""
        p, widths = self.params, self.setting.known
        if p.targets == "concat":
            return distillation.kl_divergence(teacher, student, p.tau)
        pairs = zip(teacher.split(widths, 1), student.split(widths, 1), strict=True)
        return torch.stack([distillation.kl_divergence(t, s, p.tau) for t, s in pairs]).mean()

    @staticmethod
    def errors(common: Common) -> list[Tensor]:
        """Mean squared error of each teacher's map as rebuilt."""
        return [(full(a) - full(b)).square().mean() for a, b in zip(common.rebuilt, common.maps, strict=True)]

    def findings(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Measure held-out images: distance of student and teacher features, their spread, how well maps are rebuilt.

        Means over teachers: mmd, with the released kernels, unbiased; apart, mean of 1 - cosine of two images' features; r2,
        the explained part of the maps' variance. And some of the features, flattened and of unit length, as MMD sees them.
        """
        parts = []
        with judged(self.student.net), self.teacher.uncounted():
            for batch in self.setting.kind.shown(self.held, BATCH):
                *theirs, own = self.observe(batch.to(self.setting.runtime.device)).maps
                parts.append(self.players["space"].net(own, theirs))
        student, *lists = zip(*parts, strict=True)
        common = Common(torch.cat(student), *([torch.cat(each) for each in zip(*one, strict=True)] for one in lists))
        found = {
            "mmd": [reference_mmd(common.student, x, unbiased=True) for x in common.teachers],
            "apart": [apart(x) for x in common.teachers],
            "r2": [1 - error / unit for error, unit in zip(self.errors(common), self.variances, strict=True)],
        }
        named = {"student": common.student} | {f"teacher {i}": x for i, x in enumerate(common.teachers, 1)}
        shown = {name: F.normalize(full(x[:SHOWN]).flatten(1), dim=1) for name, x in named.items()}
        return {name: torch.stack(each).mean().item() for name, each in found.items()}, shown


class Observed(NamedTuple):
    """Logits (B, K) of `teacher` and `student`; `maps`, the last stage (B, C, H, W) of every teacher, and of the student."""

    teacher: Tensor
    student: Tensor
    maps: list[Tensor]
