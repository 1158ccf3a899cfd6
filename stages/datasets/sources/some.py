"""Some of another source's images."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stages.datasets.examples import Examples
from stages.datasets.images import ImageForm
from stages.datasets.sources import Source as Images
from stages.support.errors import UserError
from stages.support.sections import Section, Seed
from stages.support.seeds import shuffled


class Source(Section):
    """`count` of `images`, drawn at random, in their order; their test part as it is."""

    gives: ClassVar[str | None] = None  # what the other gives
    source: Literal["some"]
    images: Images
    count: Annotated[int, Field(gt=0)]
    seed: Seed = 0

    def read(self, form: ImageForm) -> Examples:
        """The same draw for the same seed. Raises UserError where there are fewer."""
        every = self.images.read(form)
        if len(every) < self.count:
            raise UserError(f"some: `count` is {self.count:,}, but there are {len(every):,} images; lower it")
        return every.subset(shuffled(len(every), self.seed)[: self.count].sort().values)

    def read_test(self, form: ImageForm) -> Examples | None:
        """Read the whole test part of the inner source."""
        test: Examples | None = self.images.read_test(form)
        return test
