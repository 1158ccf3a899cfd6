"""Cross-entropy on labelled in-domain images: how teachers are trained, and an upper bound for students."""

import torch.nn.functional as F
from torch import Tensor

from stages import losses
from stages.methods import Method as Base


class Method(Base):
    """SGD on the true labels; sees the in-domain training split."""

    upper_bound = True
    nesterov = True

    def build(self) -> None:
        """One stream of labelled images."""
        setting = self.setting
        assert setting.in_domain is not None
        self.images = self.stream("in_domain", setting.in_domain, setting.schedule.images, setting.schedule.augment)

    def step(self) -> dict[str, Tensor]:
        """One step down the cross-entropy."""
        batch = self.images.next()
        with self.cost.timed("distillation"), self.student.turn():
            loss = F.cross_entropy(losses.full(self.student(batch.images)), batch.labels)
            self.student.update(loss)
        return {"loss": loss}
