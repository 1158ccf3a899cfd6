"""An image folder in torchvision's ImageFolder layout."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from stages.datasets.examples import Examples
from stages.datasets.images import ImageForm
from stages.datasets.sources._files import Folder, elsewhere
from stages.datasets.sources._tree import LAYOUT, Tree, decode
from stages.support.errors import UserError


class Source(Tree):
    """An image folder. A set above `pack_gb` GB once decoded is not packed but read from its folder in every epoch."""

    source: Literal["folder"]
    pack_gb: float = Field(8.0, gt=0)

    def _under(self, top: str, form: ImageForm) -> Examples:
        root = Path(self.path)
        if not root.is_dir():
            raise UserError(f"the image folder {root} is missing; {LAYOUT}{elsewhere()}")
        found = Folder(root)
        class_of, classes = self._members(found.names, top)
        keep = len(class_of) * math.prod(form.shape) <= self.pack_gb * 1e9
        images = decode(found.opened(class_of), class_of, classes, self.path, form, keep)
        if keep:
            return images
        return replace(images, files=tuple(str(root / file) for file in images.files))
