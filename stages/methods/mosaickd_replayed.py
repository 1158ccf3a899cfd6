"""MosaicKD whose teacher looks at a synthetic image once and whose student sees it several times."""

from stages.datasets.images import to_uint8, to_unit
from stages.methods import mosaickd
from stages.methods.bases.method import Seen
from stages.methods.blocks.replay import Replay
from stages.support.sections import Positive


class Method(mosaickd.Method):
    """A ring keeps the newest synthetic images with T's answers, and S draws from it."""

    class Params(mosaickd.Method.Params):
        """T is shown one image for `reuse` that S sees, which are drawn from the last `ring`."""

        reuse: Positive = 4
        ring: Positive = 20000

    params: Params

    def build(self) -> None:
        """MosaicKD's players, and the ring."""
        super().build()
        self.replay = Replay(self.params.ring, self.params.reuse, self.setting, f"method.{self.name}.ring")
        self.memories["replay"] = self.replay.ring

    def synthetic(self) -> Seen:
        """B kept images; those that are new are shown to T first."""
        new = self.replay.new(self.batch)
        self.replay.add(to_uint8(self.samples(new)))
        self.cost.images += new
        rows = self.replay.draw(self.batch)
        return to_unit(rows["images"]), rows["logits"]
