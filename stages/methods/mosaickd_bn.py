"""MosaicKD whose generator also matches what the teacher's batch normalisation remembers of its training data."""

from typing import Any

from torch import Tensor

from stages.engine.teacher import BATCH_NORM
from stages.losses import synthesis
from stages.methods import mosaickd
from stages.methods.blocks.rank_statistics import union_moments
from stages.methods.blocks.terms import Terms
from stages.networks.taps import BatchNorms
from stages.support.sections import Weight


class Method(mosaickd.Method):
    """G has DeepInversion's batch-norm term beside the paper's."""

    class Params(mosaickd.Method.Params):
        """`bn` weighs the distance to T's running statistics, with CMI's value."""

        bn: Weight = 1.0

    params: Params

    @classmethod
    def needs(cls, params: Any) -> frozenset[str]:
        """G learns through T, close to T's running statistics."""
        return super().needs(params) | {BATCH_NORM}

    def build(self) -> None:
        """MosaicKD's players, and an ear on T's batch normalisation."""
        super().build()
        self.norms = BatchNorms(self.teacher)

    def ask(self, fake: Tensor) -> Tensor:
        """T's logits; what enters its batch normalisation on the way is kept."""
        teacher, self.heard = self.norms.ask(fake)
        return teacher

    def terms(self, fake: Tensor) -> Terms:
        """MosaicKD's terms of G's images (B, C, H, W), and the distance of their statistics to T's (Yin et al. 2020, eq. 4)."""
        terms = super().terms(fake)
        statistics = union_moments(self.heard, self.setting.runtime)
        return {**terms, "bn": (self.params.bn, synthesis.statistics_mismatch(statistics, self.norms.running))}
