"""Letters drawn in fonts that come with matplotlib."""

from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from stages.datasets.examples import Examples
from stages.datasets.images import ImageForm
from stages.datasets.sources._drawn import Seeded, drawn, glyph

LETTERS = "ACDEFGHJKLMNPQRTUVWXYacdefhijkmnprtuvwxy"  # without O o l I S s Z z B g q b, which look like digits


class Source(Seeded):
    """Letters that look like no digit, in the DejaVu fonts that matplotlib ships, at the resolution of the digits."""

    source: Literal["letters"]
    count: int = Field(gt=0)

    def read(self, form: ImageForm) -> Examples:
        """`count` letters of several heights."""

        def draw(rng: np.random.Generator) -> Tensor:
            return glyph(rng, (40, 65), lambda: LETTERS[rng.integers(len(LETTERS))], form)

        return drawn(draw, self.count, self.seed)
