"""MosaicKD whose student sees the pool as strong blind distillation does: images composed of tiles."""

from stages.datasets.images import to_unit
from stages.methods import mosaickd
from stages.methods.bases.method import Seen
from stages.methods.blocks.composer import Composer, Mixing


class Method(mosaickd.Method):
    """Instead of B images of the pool S sees B that are cropped, flipped, mixed and even over the classes that T sees."""

    class Params(mosaickd.Method.Params):
        """`mixing` has the values of strong blind distillation."""

        mixing: Mixing = Mixing()

    params: Params

    def open_pool(self) -> None:
        """The composer of tiles."""
        self.composer = Composer(self, "tiles", self.schedule.batch, self.params.mixing)

    def foreign(self) -> Seen:
        """B composed images."""
        return to_unit(self.composer.next()), None
