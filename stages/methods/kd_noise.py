"""Knowledge distillation on uniform noise: the floor, what a student learns from no images at all."""

import torch
from torch import Tensor

from stages.methods import Imitation, Seen


class Method(Imitation):
    """KL(T || S) on fresh images of independent uniform pixels in [0, 1]."""

    def images(self) -> Seen:
        """The next images of noise."""
        return self.samples(self.setting.runtime.share(self.setting.schedule.images, "the student's batch")), None

    def samples(self, count: int) -> Tensor:
        """`count` images of noise."""
        setting = self.setting
        return torch.rand(count, setting.channels, setting.size, setting.size, device=setting.runtime.device)
