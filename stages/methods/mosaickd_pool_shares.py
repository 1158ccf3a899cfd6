"""MosaicKD whose balance term wants the classes as frequent as the teacher sees them in the pool: scenes are not even."""

from stages.losses import distillation
from stages.methods import mosaickd
from stages.methods.bases.method import POOL
from stages.support.seeds import shuffled

IMAGES = 1024  # of the pool, by which the shares of classes are measured


class Method(mosaickd.Method):
    """The target is T's mean prediction of some of the pool."""

    def build(self) -> None:
        """MosaicKD's players, and the shares."""
        super().build()
        pool, kind, runtime = self.setting.data[POOL], self.setting.kind, self.setting.runtime
        rows = shuffled(len(pool))[:IMAGES]
        with self.teacher.uncounted():
            self.target = distillation.mean_prediction(kind.answers(self.teacher, pool.subset(rows), 64)).to(runtime.device)
