"""DFND: learning student networks in the wild (Chen et al., CVPR 2021). Choose its images with `curate.keep: confidence`.

It departs from the released code where that is not to be had or harms: the diagonal of the noise matrix is what T's owner says of
T, not its accuracy on the test split; classes without an image have weight 0 (`class_weights`); images are augmented as the task
says, where the release augments none, and are normalised as T's; the last step counts, not the best on the test split. The
schedule is the task's; the paper's is the row `dfnd_published`.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from stages.datasets.examples import LOGITS, PREDICTED
from stages.engine.players import descend, turns
from stages.kinds import ONE_LABEL
from stages.losses import distillation
from stages.methods.bases.method import POOL, MethodParams
from stages.methods.bases.method import Method as Base
from stages.methods.blocks.noise import Adaptation
from stages.support.sections import Rate


class Method(Base):
    """KL(T || S), rare classes counting for more, and T's hard predictions through a learned noise matrix."""

    class Params(MethodParams):
        """`accuracy` is what T's owner says of T; the paper's code takes the test split's, which nobody has."""

        tau: Rate = 2.0
        accuracy: Annotated[float, Field(gt=0, lt=1)] = 0.95
        noise_lr: Rate = 1e-3

    params: Params
    of_kind = frozenset({ONE_LABEL})
    sees = frozenset({POOL})

    def build(self) -> None:
        """The pool, the weights of its classes, and the noise matrix."""
        setting, pool = self.setting, self.setting.data[POOL]
        self.pool = self.stream("pool", pool, self.schedule.real, self.schedule.of_pool)
        counts = torch.bincount(pool.columns[PREDICTED], minlength=setting.classes)
        self.weights = class_weights(counts).to(setting.runtime.device)
        net = setting.runtime.place(Adaptation(setting.classes, self.params.accuracy, learned=False))
        self.noise = self.player(
            "noise", net, torch.optim.Adam(net.parameters(), self.params.noise_lr, fused=True), falling="constant"
        )

    def step(self) -> dict[str, Tensor]:
        """One step of S and the noise matrix."""
        with self.cost.timed("distillation"):
            batch = self.pool.next()
            teacher = batch[LOGITS] if LOGITS in batch else self.teacher.logits(batch["input"])
            predicted = teacher.argmax(1)
            with turns([self.student, self.noise]):
                student = self.student(batch["input"])
                each = distillation.kl_per_sample(teacher, student, self.params.tau) * self.weights[predicted]
                union = self.setting.runtime.union  # the weights of a batch sum to 1, whoever holds its images
                kd, noise = each.mean() * self.params.tau**2, self.noise.net(union(student), union(predicted), self.weights)
                descend(kd + noise, self.student, self.noise)
        return {"kd": kd.detach(), "noise": noise.detach()}


def class_weights(counts: Tensor) -> Tensor:
    """Proportional to 1 / (n_k + 1) for `counts` n (K,), with mean 1 over the classes that have images; 0 for the others.

    The paper gives an empty class a weight too, the largest of all, against which the others shrink to nothing.
    """
    weights = (counts > 0) / (counts + 1)
    return weights * (counts > 0).sum() / weights.sum()
