"""What the named taps of the teacher and of the student show of a batch."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.engine.players import Player, judged
from stages.methods.bases.method import Setting
from stages.networks.taps import heads, listening, stages, vectors


class Observation(NamedTuple):
    """`logits` (B, K, ...); what `entered` the layers that give them; `maps`, the output (B, C, H, W) of each stage."""

    logits: Tensor
    entered: list[Tensor]
    maps: list[Tensor]

    @property
    def pooled(self) -> Tensor:
        """The penultimate feature (B, D)."""
        return vectors(self.entered)


class Watch:
    """Looks at T and at S while they run, around torch.compile, which passes over hooks.

    Images are (B, C, S, S) in [0, 1]. `with_maps` asks for the stages' maps too. `student_shape` and `teacher_shape` are what
    both show of one image.
    """

    def __init__(self, setting: Setting, student: Player, with_maps: bool = False):
        self._asked, self._learner, self._maps = setting.teacher, student.net, with_maps
        image = setting.kind.blank(1).to(setting.runtime.device)
        with judged(student.net):
            self.student_shape = self.student(image)
        with self._asked.uncounted():
            self.teacher_shape = self.teacher(image)

    @torch.no_grad()
    def teacher(self, images: Tensor) -> Observation:
        """What T shows, without a graph."""
        return self._see(self._asked, lambda x: self._asked(x, eager=True), images)

    def student(self, images: Tensor) -> Observation:
        """The student's features of these images."""
        return self._see(self._learner, self._learner.forward, images)

    def _see(self, net: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor) -> Observation:
        with (
            listening(heads(net)) as entered,
            listening(stages(net) if self._maps else [], outputs=True) as maps,
        ):
            logits = forward(images)
        return Observation(logits, entered, maps)
