"""Digits drawn in fonts that come with matplotlib."""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from stages.datasets.examples import Examples
from stages.datasets.images import ImageForm
from stages.datasets.sources._drawn import Seeded, drawn, glyph


class Source(Seeded):
    """Digits in the DejaVu fonts that matplotlib ships, at the resolution of the handwritten ones: another domain for them."""

    source: Literal["font_digits"]
    count: int = Field(gt=0)

    def read(self, form: ImageForm) -> Examples:
        """`count` digits that nearly fill the image, every class equally often."""
        labels = torch.arange(self.count) % 10
        digits = iter(labels.tolist())

        def draw(rng: np.random.Generator) -> Tensor:
            return glyph(rng, (60, 75), lambda: str(next(digits)), form)

        images = drawn(draw, self.count, self.seed)
        return replace(images.having(label=labels), classes=tuple("0123456789"))
