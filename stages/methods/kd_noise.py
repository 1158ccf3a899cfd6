"""Knowledge distillation on uniform noise: the floor, what a student learns from no images at all."""

import torch
from torch import Tensor

from stages.kinds import IMAGES
from stages.methods.bases.imitation import Imitation
from stages.methods.bases.method import Seen


class Method(Imitation):
    """KL(T || S) on fresh images of independent uniform pixels in [0, 1]."""

    of_kind = frozenset({IMAGES})

    def next(self) -> Seen:
        """The next images of noise."""
        images = self.samples(self.setting.runtime.share(self.schedule.real, "the student's batch"))
        self.cost.images += len(images)
        return images, None

    def samples(self, count: int) -> Tensor:
        """`count` images of noise."""
        return torch.rand(count, *self.setting.form.shape, device=self.setting.runtime.device)
