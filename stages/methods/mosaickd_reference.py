"""MosaicKD with two slips of its released code restored, to compare numbers with that code."""

from contextlib import AbstractContextManager
from typing import Annotated

from pydantic import Field

from stages.methods import mosaickd
from stages.methods.bases.method import Seen
from stages.networks.normalize import per_channel
from stages.support.sections import Rate

Constants = Annotated[list[Rate], Field(min_length=1, max_length=3)]


class Method(mosaickd.Method):
    """S's pool images are normalised with constants of the OOD set, and steps of G move S's running statistics."""

    class Params(mosaickd.Method.Params):
        """`ood_mean` and `ood_std` are those constants, one or one a channel."""

        ood_mean: Constants = Field([0.5])
        ood_std: Constants = Field([0.5])

    params: Params

    def build(self) -> None:
        """MosaicKD's players, and both normalisations."""
        super().build()
        setting, p = self.setting, self.params
        constants = (setting.mean, setting.std, p.ood_mean, p.ood_std)
        self.own_mean, self.own_std, self.ood_mean, self.ood_std = (
            per_channel(values).to(setting.runtime.device) for values in constants
        )

    def watching(self) -> AbstractContextManager[None]:
        """In train mode, and S's running statistics move."""
        return self.student.turn()

    def foreign(self) -> Seen:
        """B images of the pool, such that T's normaliser gives what the OOD set's own constants would have given."""
        images, _ = super().foreign()
        return (images - self.ood_mean) / self.ood_std * self.own_std + self.own_mean, None
