"""Similarity-preserving distillation (Tung & Mori 2019, arXiv:1907.09682), on OOD images and beside KD."""

from torch import Tensor

from stages.losses import representation
from stages.methods.bases.feature_matching import FeatureMatching
from stages.methods.blocks.feature_watch import Observation
from stages.support.sections import Weight


class Method(FeatureMatching):
    """Images that are alike for T are alike for S."""

    class Params(FeatureMatching.Params):
        """`beta` weighs the term; the default is the paper's."""

        beta: Weight = 3000.0

    with_maps = True

    def term(self, student: Observation, teacher: Observation, rows: Tensor) -> Tensor:
        """Distance of the similarity matrices of the last maps, over all ranks' images."""
        union = self.setting.runtime.union
        return representation.similarity(union(student.maps[-1]), union(teacher.maps[-1]))
