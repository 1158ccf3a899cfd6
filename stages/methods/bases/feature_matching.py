"""Knowledge distillation on the pool with a term on features beside it."""

from typing import ClassVar

from torch import Tensor, nn

from stages.engine.players import Player, descend, turns
from stages.engine.teacher import FEATURES, STAGES
from stages.kinds import IMAGES, ONE_LABEL
from stages.losses import distillation
from stages.methods.bases.imitation import Imitation
from stages.methods.bases.method import POOL
from stages.methods.blocks.feature_watch import Observation, Watch
from stages.methods.blocks.terms import values, weighted
from stages.support.sections import Weight


class FeatureMatching(Imitation):
    """KL(T || S) at temperature tau plus `beta` times a term on features. Subclasses write `term`.

    OOD images have no label in T's classes, so the cross-entropy of the papers falls away and KD takes weight 1.
    """

    class Params(Imitation.Params):
        """`beta` weighs the term on features."""

        beta: Weight

    params: Params
    of_kind = frozenset({IMAGES, ONE_LABEL})
    sees = frozenset({POOL})
    with_maps: ClassVar[bool] = False  # whether the term looks at the stages' maps, beside the pooled vector

    @classmethod
    def needs(cls, params: Params) -> frozenset[str]:
        """The last layer, and the stages where the term looks at them."""
        return frozenset({FEATURES, STAGES} if cls.with_maps else {FEATURES})

    def build(self) -> None:
        """One shuffled stream of the pool, and the heads that learn with S and are not exported."""
        setting, schedule = self.setting, self.schedule
        self.pool = self.stream("pool", setting.data["pool"], schedule.real, schedule.of_pool)
        self.watch = Watch(setting, self.student, self.with_maps)
        self.learners: list[Player] = [self.student]
        if heads := self.make_heads(self.watch.student_shape, self.watch.teacher_shape):
            heads = setting.runtime.place(heads)
            self.learners.append(self.learner("heads", heads))

    def make_heads(self, student: Observation, teacher: Observation) -> nn.Module | None:
        """Modules that bring features together, given what both networks show of one image; none by default."""
        return None

    def term(self, student: Observation, teacher: Observation, rows: Tensor) -> Tensor:
        """The term on features, of what both show of a batch; `rows` (B,) of the pool are its images."""
        raise NotImplementedError

    def step(self) -> dict[str, Tensor]:
        """One step of S and its heads."""
        with self.cost.timed("distillation"):
            batch = self.pool.next()
            teacher = self.watch.teacher(batch["input"])
            with turns(self.learners):
                student = self.watch.student(batch["input"])
                terms = {
                    "kd": (1.0, distillation.kl_divergence(teacher.logits, student.logits, self.params.tau)),
                    "feature": (self.params.beta, self.term(student, teacher, batch["rows"])),
                }
                descend(weighted(terms), *self.learners)
        return values(terms)


def paired(student: list[Tensor], teacher: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Stages side by side, from the first to the last; the network with more of them loses its first ones."""
    count = min(len(student), len(teacher))
    return list(zip(student[-count:], teacher[-count:], strict=True))
