"""Attention transfer (Zagoruyko & Komodakis 2017, arXiv:1612.03928), on OOD images and beside KD."""

import torch
from torch import Tensor

from stages.kinds import IMAGES
from stages.losses import representation
from stages.methods.bases.feature_matching import FeatureMatching, paired
from stages.methods.blocks.feature_watch import Observation
from stages.support.sections import Weight


class Method(FeatureMatching):
    """Where S and T look, in every stage."""

    class Params(FeatureMatching.Params):
        """The paper's weight, for means over places."""

        beta: Weight = 1000.0

    of_kind = frozenset({IMAGES})
    with_maps = True

    def term(self, student: Observation, teacher: Observation, rows: Tensor) -> Tensor:
        """Distance of attention maps, summed over stages."""
        return torch.stack([representation.attention(s, t) for s, t in paired(student.maps, teacher.maps)]).sum()
