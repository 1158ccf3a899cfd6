"""Square patches of another source's images."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from stages.datasets.examples import Examples, pack
from stages.datasets.images import ImageForm, Side
from stages.datasets.sources import Source as Images
from stages.datasets.sources._drawn import Seeded
from stages.support.errors import UserError
from stages.support.progress import progress
from stages.support.seeds import mix


class Source(Seeded):
    """`count` patches of `smallest` to `size` pixels a side, at random places of `images`, which are read at `size` pixels.

    They are shrunk to the task's size, never enlarged: a blurred patch has no texture.
    """

    source: Literal["patches"]
    images: Images
    size: Side
    smallest: Annotated[int, Field(ge=8)]
    count: Annotated[int, Field(gt=0)]

    def read(self, form: ImageForm) -> Examples:
        """Without labels. Raises UserError where patches would be enlarged, or there are none to cut."""
        if not max(form.height, form.width) <= self.smallest <= self.size:
            raise UserError(
                f"patches: `smallest` is {self.smallest}; it must lie between the task's size, {max(form.height, form.width)}, "
                f"and `size`, {self.size}"
            )
        images = self.images.read(ImageForm(size=self.size, channels=form.channels)).all_inputs()
        generator = torch.Generator().manual_seed(mix(self.seed))

        def upto(end: int) -> int:
            return int(torch.randint(end, (), generator=generator))

        def cut() -> Tensor:
            side = self.smallest + upto(self.size - self.smallest + 1)
            top, left = upto(self.size - side + 1), upto(self.size - side + 1)
            patch = images[upto(len(images)), None, :, top : top + side, left : left + side]
            return F.interpolate(patch, (form.height, form.width), mode="bilinear", antialias=True)[0]

        return pack(torch.stack([cut() for _ in progress(range(self.count), "cut patches")]))
