"""Images with a mask each: which class every pixel is of."""

import re
from pathlib import PurePosixPath
from typing import IO, Annotated, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import Field
from torch import Tensor

from stages.datasets.examples import UNKNOWN, Examples, pack
from stages.datasets.images import ImageForm, to_pixels
from stages.datasets.sources._files import Files, folder_or_archive
from stages.datasets.sources._tree import ENDINGS
from stages.support.errors import UserError
from stages.support.progress import progress
from stages.support.sections import Section

IMAGES, MASKS = "images", "labels"
LISTED = "classes.txt"
LAYOUT = f"expected PATH/SPLIT/{IMAGES}/NAME.jpg with PATH/SPLIT/{MASKS}/NAME.png, and PATH/{LISTED}"


class Source(Section):
    """A folder or tar archive with `images/` and `labels/` in each split, PNG masks of class ids under the images' names.

    `classes.txt` at its top has a line a class: id, name. Pixels of the class `ignore` are not labelled. Without `test`, prepare
    splits off the last part of `train`.
    """

    source: Literal["masks"]
    path: str
    train: str = "train"
    test: str | None = None
    ignore: Annotated[int, Field(ge=0)] | None = None

    def read(self, form: ImageForm) -> Examples:
        """The images under `train`, in the order of their names.

        Raises UserError that names the file, for an image without a mask and a mask without an image, another size, an id that
        `classes.txt` has not, a broken file.
        """
        return self._under(self.train, form)

    def read_test(self, form: ImageForm) -> Examples | None:
        """The images under `test`, or None where there is no such part."""
        return None if self.test is None else self._under(self.test, form)

    def _under(self, top: str, form: ImageForm) -> Examples:
        with folder_or_archive(self.path) as files:
            pairs = self._pairs(files, top)
            wanted = [name for pair in pairs for name in pair]
            content = {name: file for name, file in progress(files.opened([LISTED, *wanted]), self.path, total=1 + len(wanted))}
            names = self._classes(content[LISTED].read().decode())
            number = torch.full((256,), 256)
            number[list(names)] = torch.arange(len(names))
            if self.ignore is not None:
                number[self.ignore] = UNKNOWN
            read = [self._read(content, *pair, number, form) for pair in pairs]
        return pack(torch.stack([pixels for pixels, _ in read]), torch.stack([mask for _, mask in read]), tuple(names.values()))

    def _pairs(self, files: Files, top: str) -> list[tuple[str, str]]:
        """Image and mask, by name."""
        found: dict[str, dict[str, str]] = {}
        for kind in (IMAGES, MASKS):
            folder = PurePosixPath(top, kind)
            paths = [PurePosixPath(name) for name in files.names]
            found[kind] = {
                path.stem: str(path) for path in sorted(paths) if path.parent == folder and path.suffix.lower() in ENDINGS
            }
        if not found[IMAGES] or LISTED not in files.names:
            lacks = LISTED if found[IMAGES] else f"image under '{top}/{IMAGES}'"
            raise UserError(f"{self.path} has no {lacks}; {LAYOUT}")
        for kind, other, what in ((IMAGES, MASKS, "mask"), (MASKS, IMAGES, "image")):
            if alone := sorted(found[kind].keys() - found[other].keys()):
                raise UserError(f"{self.path}/{found[kind][alone[0]]} has no {what} of its name under '{top}/{other}'")
        return [(found[IMAGES][stem], found[MASKS][stem]) for stem in found[IMAGES]]

    def _classes(self, text: str) -> dict[int, str]:
        """Id -> name, but for the one that is ignored."""
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        parts = [re.split(r"[\s,]+", line) for line in lines]
        for line, words in zip(lines, parts, strict=True):
            if len(words) < 2 or not words[0].isdecimal() or int(words[0]) > 255:
                raise UserError(f"{self.path}/{LISTED}: '{line}' is not an id of 0 to 255 and a name")
        names = {int(words[0]): words[1] for words in parts}
        return {number: name for number, name in sorted(names.items()) if number != self.ignore}

    def _read(
        self, content: dict[str, IO[bytes]], image: str, mask: str, number: Tensor, form: ImageForm
    ) -> tuple[Tensor, Tensor]:
        """Pixels, and the numbers of their classes, which are never interpolated."""
        name = image
        try:
            with Image.open(content[image]) as picture:
                size, pixels = picture.size, to_pixels(picture, form.shape)
            name = mask
            with Image.open(content[mask]) as drawn:
                if drawn.mode not in ("L", "P"):
                    raise UserError(f"{self.path}/{mask} has no class ids of 8 bits, but colours (mode {drawn.mode})")
                if drawn.size != size:
                    raise UserError(f"{self.path}/{mask} has {drawn.size} pixels, its image {image} has {size}")
                fitted = ImageOps.fit(drawn, (form.width, form.height), Image.Resampling.NEAREST)
                ids = torch.from_numpy(np.array(fitted)).long()
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{self.path}/{name} is broken ({error}); mend or remove it") from None
        classes = number[ids]
        if (unknown := classes == 256).any():
            raise UserError(
                f"{self.path}/{mask} has pixels of class {int(ids[unknown][0])}, which {LISTED} has not; list it there, or "
                "name it in `ignore`"
            )
        return pixels, classes
