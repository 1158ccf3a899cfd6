"""Where images come from, and the form they get on disk."""

from typing import Annotated

from pydantic import Field

from stages.datasets.builtin import Digits, Letters, Photographs
from stages.datasets.folders import Folder, Tar
from stages.datasets.images import UNKNOWN, ImageSet
from stages.datasets.library import Torchvision

Source = Annotated[Digits | Photographs | Letters | Torchvision | Folder | Tar, Field(discriminator="source")]

__all__ = ["UNKNOWN", "ImageSet", "Source"]
