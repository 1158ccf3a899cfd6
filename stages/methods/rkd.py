"""Relational knowledge distillation (Park et al. 2019, arXiv:1904.05068), on OOD images and beside KD."""

from torch import Tensor

from stages.losses import representation
from stages.methods.bases.feature_matching import FeatureMatching
from stages.methods.blocks.feature_watch import Observation
from stages.support.sections import Weight


class Method(FeatureMatching):
    """Distances and angles between the images of a batch, in the pooled features."""

    class Params(FeatureMatching.Params):
        """`distance` and `angle` weigh the two parts."""

        beta: Weight = 1.0
        distance: Weight = 25.0
        angle: Weight = 50.0

    params: Params

    def term(self, student: Observation, teacher: Observation, rows: Tensor) -> Tensor:
        """25 times distances plus 50 times angles, over all ranks' images."""
        union, p = self.setting.runtime.union, self.params
        s, t = union(student.pooled), union(teacher.pooled)
        return p.distance * representation.relation_distance(s, t) + p.angle * representation.relation_angle(s, t)
