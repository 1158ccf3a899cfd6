"""Handwritten digits that come with scikit-learn."""

from typing import Literal

import numpy as np
import torch
from PIL import Image

from stages.datasets.examples import Examples, pack
from stages.datasets.images import ImageForm, to_pixels
from stages.datasets.sources._drawn import Drawn


class Source(Drawn):
    """Scikit-learn's 1,797 handwritten digits, 8x8 grey, enlarged to the task's size."""

    source: Literal["digits"]

    def read(self, form: ImageForm) -> Examples:
        """Read all 1,797 digits with their labels."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        grey = (bunch.images * (255 / 16)).round().astype(np.uint8)
        pixels = torch.stack([to_pixels(Image.fromarray(digit), form.shape) for digit in grey])
        return pack(pixels, torch.from_numpy(bunch.target).long(), tuple("0123456789"))
