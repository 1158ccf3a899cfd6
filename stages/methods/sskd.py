"""SSKD: knowledge distillation meets self-supervision (Xu et al. 2020, arXiv:2006.07114), without labels, on OOD images."""

from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from stages.datasets.images import Augment, augmented
from stages.engine.players import descend, turns
from stages.engine.teacher import FEATURES
from stages.kinds import IMAGES, ONE_LABEL
from stages.losses import distillation
from stages.losses.representation import reliable, rotation_similarity
from stages.methods.bases.method import POOL, MethodParams
from stages.methods.bases.phased import Phase, Phased
from stages.methods.blocks.feature_watch import Watch
from stages.methods.blocks.terms import Terms, values, weighted
from stages.settings.rates import Drops
from stages.support.sections import Positive, Rate, Weight

HEAD_RATE = Drops(at=[0.5, 0.75], by=0.1)  # of T's head: after 30 and 45 of its 60 epochs


class Method(Phased):
    """First a head on T learns which turned copy is of which image; then S learns T's logits and that head's similarities."""

    class Params(MethodParams):
        """`turned` and `similarity` weigh KD on turned copies and on rows of similarities; `kept` is of the unsure rows."""

        head_steps: Positive = 23400  # 60 epochs of 50,000 images, 128 at a time
        head_lr: Rate = 0.05
        tau: Rate = 4.0
        turned: Weight = 2.7
        similarity: Weight = 10.0
        similarity_tau: Rate = 0.5
        kept: Annotated[float, Field(ge=0, le=1)] = 0.75

        def smoke(self) -> Self:
            """A few steps of the head."""
            return self.model_copy(update={"head_steps": 5})

    params: Params
    of_kind = frozenset({IMAGES, ONE_LABEL})
    sees = frozenset({POOL})

    @classmethod
    def needs(cls, params: Any) -> frozenset[str]:
        """The last layer, whose inputs T's head sees."""
        return frozenset({FEATURES})

    def build(self) -> None:
        """The pool, flipped only; both heads; the watch on both networks."""
        setting, schedule = self.setting, self.schedule
        flip = Augment(flip=schedule.of_pool.flip)
        self.pool = self.stream("pool", setting.data[POOL], max(2, schedule.real // 4), flip)
        self.watch = Watch(setting, self.student)
        shapes = (self.watch.teacher_shape, self.watch.student_shape)
        of_t, of_s = (setting.runtime.place(head(shape.pooled.shape[1])) for shape in shapes)
        rate = torch.optim.SGD(of_t.parameters(), self.params.head_lr, 0.9, weight_decay=5e-4, fused=True)
        self.teacher_head = self.player("teacher_head", of_t, rate, HEAD_RATE, self.span(0))
        self.student_head = self.learner("student_head", of_s, self.span(1))
        self.student.span = self.span(1)

    def phases(self) -> list[Phase]:
        """T's head, then S."""
        return [(self.params.head_steps, self.head_step), (self.schedule.steps, self.student_step)]

    def head_step(self, number: int) -> dict[str, Tensor]:
        """Cross-entropy of each turned copy's similarities, without a temperature, against the image that it is of."""
        with self.cost.timed("distillation"):
            teacher = self.watch.teacher(self.turned_batch())
            with self.teacher_head.turn():
                similarity = self.similarity(self.teacher_head(teacher.pooled))
                right = torch.arange(len(similarity), device=similarity.device) % similarity.shape[1]
                loss = F.cross_entropy(similarity, right)
                self.teacher_head.update(loss)
        return {"head": loss.detach()}

    def student_step(self, number: int) -> dict[str, Tensor]:
        """One step of S and its head."""
        with self.cost.timed("distillation"):
            images = self.turned_batch()
            teacher = self.watch.teacher(images)
            with torch.no_grad():
                target = self.similarity(self.teacher_head(teacher.pooled))
            with turns([self.student, self.student_head]):
                student = self.watch.student(images)
                terms = self.terms(teacher.logits, student.logits, target, self.similarity(self.student_head(student.pooled)))
                descend(weighted(terms), self.student, self.student_head)
        return values(terms)

    def terms(self, teacher: Tensor, student: Tensor, target: Tensor, similarity: Tensor) -> Terms:
        """The terms of SSKD, from both networks' logits (4B, K) and both heads' similarities (3U, U) of all ranks' U images."""
        p, upright = self.params, len(teacher) // 4
        rows = reliable(target, p.kept)
        return {
            "kd": (1.0, distillation.kl_divergence(teacher[:upright], student[:upright], p.tau)),
            "turned": (p.turned, distillation.kl_divergence(teacher[upright:], student[upright:], p.tau)),
            "similarity": (p.similarity, distillation.kl_divergence(target[rows], similarity[rows], p.similarity_tau)),
        }

    def similarity(self, vectors: Tensor) -> Tensor:
        """Similarity of all ranks' turned copies with all upright images, (3U, U), from a rank's vectors (4B, D)."""
        union = self.setting.runtime.union
        return rotation_similarity(torch.cat([union(quarter) for quarter in vectors.chunk(4)]))

    def turned_batch(self) -> Tensor:
        """The next B images and their turns by 90, 180 and 270 degrees, (4B, C, S, S); each copy cropped for itself."""
        images = self.pool.next()["input"]
        copies = torch.cat([turned(images, quarters) for quarters in range(4)])
        return augmented(copies, Augment(crop=self.schedule.of_pool.crop))


def turned(images: Tensor, quarters: int) -> Tensor:
    """Images (B, C, H, W) turned by quarters of a circle; where they are not square, resized to what they were."""
    turn = torch.rot90(images, quarters, (2, 3))
    return turn if turn.shape == images.shape else F.interpolate(turn, images.shape[2:], mode="bilinear", antialias=True)


def head(width: int) -> nn.Sequential:
    """Linear-ReLU-Linear of one width."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
