"""Blind distillation at its best: the pool's images cropped, flipped, mixed, and even over the classes that T sees."""

from stages.datasets.images import to_unit
from stages.kinds import IMAGES
from stages.methods.bases.imitation import Imitation
from stages.methods.bases.method import POOL, Seen
from stages.methods.blocks.composer import Composer, Mixing


class Method(Imitation):
    """KL(T || S) on images that are composed of tiles of the pool, every one looked at once."""

    class Params(Imitation.Params, Mixing):
        """The parameters of blind distillation and of mixing."""

    params: Params
    of_kind = frozenset({IMAGES})
    sees = frozenset({POOL})

    def build(self) -> None:
        """Build the composer of tiles."""
        self.composer = Composer(self, "tiles", self.schedule.real, self.params)

    def next(self) -> Seen:
        """The next composed images."""
        return to_unit(self.composer.next()), None
