"""Images of noise: the far end of what a pool can be."""

from typing import Annotated, Literal

import torch
from pydantic import Field

from stages.datasets.examples import Examples, pack
from stages.datasets.images import ImageForm
from stages.datasets.sources._drawn import Seeded
from stages.support.seeds import mix


class Source(Seeded):
    """`count` images of independent uniform pixels."""

    source: Literal["noise"]
    count: Annotated[int, Field(gt=0)]

    def read(self, form: ImageForm) -> Examples:
        """Without labels; the same draw for the same seed."""
        generator = torch.Generator().manual_seed(mix(self.seed))
        return pack(torch.randint(256, (self.count, *form.shape), dtype=torch.uint8, generator=generator))
