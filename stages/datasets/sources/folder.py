"""An image folder in torchvision's ImageFolder layout."""

import unicodedata
from pathlib import Path
from typing import Literal

from stages.datasets.examples import Examples
from stages.datasets.images import ImageForm
from stages.datasets.sources._files import Folder
from stages.datasets.sources._tree import LAYOUT, Tree, decode, of_a_tool
from stages.support.errors import UserError
from stages.support.files import elsewhere


class Source(Tree):
    """Images in a folder on disk, with a sub-folder for each class or without."""

    source: Literal["folder"]

    def _opened(self) -> Folder:
        root = Path(self.path)
        if not root.is_dir():
            raise UserError(f"the image folder {root} is missing; {LAYOUT}{elsewhere()}")
        return Folder(root)

    def _listed(self) -> list[str]:
        return self._opened().names

    def _under(self, top: str, form: ImageForm) -> Examples:
        root, found = Path(self.path), self._opened()
        class_of, classes = self._members(found.names, top)
        folders = {
            unicodedata.normalize("NFC", path.name)
            for path in (root / top).iterdir()
            if path.is_dir() and not of_a_tool(path.name)
        }
        if self.classes is None and (bare := sorted(folders - set(classes))):
            print(f"{self.path}: {len(bare)} folders under '{top}' hold no image and are no class: {', '.join(bare[:5])}")
        keep = self._fits(len(class_of), form)
        return decode(found.opened(class_of), class_of, classes, self.path, form, keep)
