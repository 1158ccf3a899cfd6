"""Several sources as one."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stages.datasets.examples import Examples, joined
from stages.datasets.images import ImageForm
from stages.datasets.sources import Source as OneSource
from stages.support.sections import Section


class Source(Section):
    """Several sources as one set; labelled where all parts have the same classes."""

    gives: ClassVar[str | None] = None  # what its parts give
    source: Literal["mixture"]
    parts: Annotated[list[OneSource], Field(min_length=2)]

    def read(self, form: ImageForm) -> Examples:
        """The training parts of all sources, one after the other."""
        return joined([part.read(form) for part in self.parts])

    def read_test(self, form: ImageForm) -> Examples | None:
        """The test parts, or None where a source has none."""
        parts = [part.read_test(form) for part in self.parts]
        known = [part for part in parts if part is not None]
        return joined(known) if len(known) == len(parts) else None
