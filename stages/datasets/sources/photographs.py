"""Patches of photographs that come with scikit-learn."""

from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field
from torch import Tensor

from stages.datasets.examples import Examples
from stages.datasets.images import ImageForm, to_pixels
from stages.datasets.sources._drawn import Seeded, drawn

FLAT = 16  # standard deviation, of 255 grey levels, below which a patch of a photograph shows nothing


class Source(Seeded):
    """Square patches of the two photographs that scikit-learn ships (china.jpg, flower.jpg), cut at six scales."""

    source: Literal["photographs"]
    count: int = Field(gt=0)

    def read(self, form: ImageForm) -> Examples:
        """`count` patches of 1 to 6 times the task's size at random places, resized; flat ones (sky, shadow) are passed over."""
        from sklearn.datasets import load_sample_images

        photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]

        def cut(rng: np.random.Generator) -> Tensor:
            photograph = photographs[rng.integers(len(photographs))]
            side = min(int(min(form.height, form.width) * rng.choice([1, 1.5, 2, 3, 4, 6])), *photograph.size)
            x, y = (int(rng.integers(length - side + 1)) for length in photograph.size)
            patch = to_pixels(photograph.crop((x, y, x + side, y + side)), form.shape)
            return patch if patch.float().std() > FLAT else cut(rng)

        return drawn(cut, self.count, self.seed)
