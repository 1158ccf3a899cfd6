"""Where images come from, and the form they get on disk."""

from typing import Annotated, Literal

from pydantic import Field

from stages.datasets.builtin import Digits, FontDigits, Letters, Photographs
from stages.datasets.folders import Folder, Tar
from stages.datasets.images import UNKNOWN, ImageSet, joined
from stages.datasets.library import Torchvision
from stages.sections import Section

Single = Annotated[Digits | FontDigits | Photographs | Letters | Torchvision | Folder | Tar, Field(discriminator="source")]


class Mixture(Section):
    """Several sources as one set; labelled where all parts have the same classes."""

    source: Literal["mixture"]
    parts: Annotated[list[Single], Field(min_length=2)]

    def read(self, channels: int, size: int) -> ImageSet:
        """The training parts of all sources, one after the other."""
        return joined([part.read(channels, size) for part in self.parts])

    def read_test(self, channels: int, size: int) -> ImageSet | None:
        """The test parts, or None where a source has none."""
        parts = [part.read_test(channels, size) for part in self.parts]
        known = [part for part in parts if part is not None]
        return joined(known) if len(known) == len(parts) else None


Source = Annotated[
    Digits | FontDigits | Photographs | Letters | Torchvision | Folder | Tar | Mixture, Field(discriminator="source")
]

__all__ = ["UNKNOWN", "ImageSet", "Source"]
