"""Attention transfer (Zagoruyko & Komodakis 2017, arXiv:1612.03928), on OOD images and beside KD."""

import torch
from torch import Tensor

from stages.params import Weight
from stages.representation import losses
from stages.representation.hints import Hints, paired
from stages.representation.observe import Observation


class Method(Hints):
    """Where S and T look, in every stage."""

    class Params(Hints.Params):
        """The paper's weight, for means over places."""

        beta: Weight = 1000.0

    with_maps = True

    def term(self, student: Observation, teacher: Observation, rows: Tensor) -> Tensor:
        """Distance of attention maps, summed over stages."""
        return torch.stack([losses.attention(s, t) for s, t in paired(student.maps, teacher.maps)]).sum()
