"""FitNets: hints from the teacher's stages (Romero et al. 2015, arXiv:1412.6550), on OOD images and jointly with KD."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.kinds import IMAGES
from stages.losses.precision import full
from stages.methods.bases.feature_matching import FeatureMatching, paired
from stages.methods.blocks.feature_watch import Observation
from stages.support.errors import UserError
from stages.support.sections import Weight


class Method(FeatureMatching):
    """Mean squared error between T's stage maps and regressions of S's, summed over stages."""

    class Params(FeatureMatching.Params):
        """`beta` weighs the sum over all stages, as MosaicKD's code takes it."""

        beta: Weight = 100.0

    params: Params
    of_kind = frozenset({IMAGES})
    with_maps = True

    def make_heads(self, student: Observation, teacher: Observation) -> nn.Module:
        """A regressor a stage."""
        return nn.ModuleList(regressor(s, t) for s, t in paired(student.maps, teacher.maps))

    def term(self, student: Observation, teacher: Observation, rows: Tensor) -> Tensor:
        """The sum over stages."""
        regressors = self.players["heads"].net
        assert isinstance(regressors, nn.ModuleList)
        pairs = zip(regressors, paired(student.maps, teacher.maps), strict=True)
        return torch.stack([F.mse_loss(full(regress(s)), full(t)) for regress, (s, t) in pairs]).sum()


def regressor(student: Tensor, teacher: Tensor) -> nn.Sequential:
    """Convolution and batch normalisation from a map of S to the shape of a map of T.

    Raises UserError where S's map is smaller than T's and not half its size.
    """
    (_, s, height, _), (_, t, target, _) = student.shape, teacher.shape
    if height == target:
        conv: nn.Module = nn.Conv2d(s, t, 1)
    elif height == 2 * target:
        conv = nn.Conv2d(s, t, 3, 2, 1)
    elif 2 * height == target:
        conv = nn.ConvTranspose2d(s, t, 4, 2, 1)
    elif height > target:
        conv = nn.Conv2d(s, t, 1 + height - target)
    else:
        raise UserError(
            f"fitnet: a stage of the student has {height} pixels a side, the teacher's {target}; take another student"
        )
    return nn.Sequential(conv, nn.BatchNorm2d(t))
