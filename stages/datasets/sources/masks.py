"""Images with a mask each: which class every pixel is of."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import IO, Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.ExifTags import Base
from pydantic import Field
from torch import Tensor

from stages.datasets.examples import UNKNOWN, Examples, pack
from stages.datasets.images import ImageForm, to_pixels
from stages.datasets.sources._files import Files, folder_or_archive
from stages.datasets.sources._tree import ENDINGS
from stages.support.errors import UserError
from stages.support.files import listed, readable
from stages.support.progress import progress
from stages.support.sections import Section, Word

LISTED = "classes.txt"
ANY = ".*"  # any ending of an image
IDS, COLOURS = ("1", "L", "P", "I", "I;16"), ("RGB", "RGBA", "P")
TURNED = (5, 6, 7, 8)  # EXIF orientations that change height and width
Byte = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[list[Byte], Field(min_length=3, max_length=3)]


class Source(Section):
    """A folder or tar archive of images and masks of class numbers or, where `colours` names them, of colours.

    `images` and `labels` say where these lie: `{split}` is `train` or `test`, `{stem}` the name that both share, `*` anything in
    a folder's name, and an ending of `.*` that of any image. Where they do not name the split, `train` and `test` are text files
    with a stem a line. Names of classes are `classes`, in the order of their numbers from 0, or stand in `classes.txt` at the
    top: a number and a name a line. Numbers with one name are one class. Pixels of the class, or colour, `ignore` are not
    labelled. Without `test`, prepare splits off the last part of `train`.
    """

    source: Literal["masks"]
    path: str
    train: str = "train"
    test: str | None = None
    images: str = "{split}/images/{stem}.*"
    labels: str = "{split}/labels/{stem}.*"
    classes: list[Word] | str | None = None
    colours: dict[str, Colour] = Field({})
    ignore: Annotated[int, Field(ge=0)] | Colour | None = None

    def read(self, form: ImageForm) -> Examples:
        """The images under `train`, in the order of their names.

        Raises UserError that names the file, for an image without a mask and a mask without an image, another size, a number or
        colour that is no class, a broken file.
        """
        return self._under(self.train, form)

    def read_test(self, form: ImageForm) -> Examples | None:
        """The images under `test`, or None where there is no such part."""
        return None if self.test is None else self._under(self.test, form)

    def _under(self, split: str, form: ImageForm) -> Examples:
        with folder_or_archive(self.path) as files:
            named = self.colours or self.classes is not None
            beside = [name for name in (LISTED,) if name in files.names and not named]
            if not named and not beside:
                raise UserError(f"{self.path} has no {LISTED}, a number and a name a line; or give `classes`, or `colours`")
            stems = self._stems(files, split)
            pairs = self._pairs(files, split, stems)
            wanted = [*beside, *(name for pair in pairs for name in pair)]
            content = {name: file for name, file in progress(files.opened(wanted), self.path, total=len(wanted))}
            names = self._names(content.get(LISTED))
            classes = tuple(dict.fromkeys(name for _, name in names))
            number = {value: classes.index(name) for value, name in names}
            if self.ignore is not None:
                number[_key(self.ignore)] = UNKNOWN
            read = [self._read(content, *pair, number, form) for pair in pairs]
        labels = torch.stack([mask for _, mask in read])
        absent = sorted({*range(len(classes))} - {*labels.unique().tolist()})
        if absent:
            print(f"{self.path}: no pixel under '{split}' is of {', '.join(repr(classes[k]) for k in absent[:8])}")
        return pack(torch.stack([pixels for pixels, _ in read]), labels, classes)

    def _stems(self, files: Files, split: str) -> set[str] | None:
        """The stems of a split that is a list; None where it is a folder."""
        if "{split}" in self.images:
            return None
        if split not in files.names:
            if split == "train" and self.test is None:
                return None  # all that there is
            raise UserError(
                f"{self.path} has no list '{split}'; where `images` has no {{split}}, `train` and `test` are text files of stems"
            )
        ((_, file),) = files.opened([split])
        lines = readable(file.read(), f"{self.path}/{split}").splitlines()
        return {line.split()[0] for line in lines if line.strip()}

    def _pairs(self, files: Files, split: str, stems: set[str] | None) -> list[tuple[str, str]]:
        """Image and mask, by their stem."""
        found: dict[str, dict[str, str]] = {}
        for kind in ("images", "labels"):
            pattern, mine = _pattern(getattr(self, kind), split), dict[str, str]()
            for name in sorted(files.names):
                path = PurePosixPath(name)
                if path.suffix.lower() in ENDINGS and (match := pattern.fullmatch(str(path))):
                    stem = match["stem"]
                    if stem in mine:
                        raise UserError(f"{self.path}: {mine[stem]} and {name} have one stem, '{stem}'; rename one of them")
                    mine[stem] = name
            found[kind] = mine
        for kind in found:
            if not found[kind]:
                where = getattr(self, kind).replace("{split}", split)
                raise UserError(f"{self.path} has no image '{where}'; say by `{kind}` where they lie")
        if stems is None and "{split}" in self.images:
            for kind, other, what in (("images", "labels", "mask"), ("labels", "images", "image")):
                if alone := sorted(found[kind].keys() - found[other].keys()):
                    where = getattr(self, other).replace("{split}", split)
                    raise UserError(f"{self.path}/{found[kind][alone[0]]} has no {what} of its name ('{where}')")
            return [(found["images"][stem], found["labels"][stem]) for stem in found["images"]]
        both = found["images"].keys() & found["labels"].keys()
        if stems is None and (left := len(found["images"]) - len(both)):
            print(f"{self.path}: {left:,} of {len(found['images']):,} images have no mask and are left out")
        if stems is not None and (lacking := sorted(stems - both)):
            raise UserError(f"{self.path}: '{split}' lists '{lacking[0]}', of which there is no image with a mask")
        return [(found["images"][stem], found["labels"][stem]) for stem in sorted(both if stems is None else stems)]

    def _names(self, file: IO[bytes] | None) -> list[tuple[Any, str]]:
        """Number, or colour, and name of each class, but for the one that is ignored; in their order."""
        if self.colours:
            pairs: list[tuple[Any, str]] = [(_key(colour), name) for name, colour in self.colours.items()]
        elif self.classes is not None:
            pairs = list(enumerate(listed(self.classes)))
        else:
            assert file is not None
            pairs = sorted(_classes(readable(file.read(), f"{self.path}/{LISTED}"), f"{self.path}/{LISTED}").items())
        ignored = None if self.ignore is None else _key(self.ignore)
        return [(value, name) for value, name in pairs if value != ignored]

    def _read(
        self, content: dict[str, IO[bytes]], image: str, mask: str, number: dict[Any, int], form: ImageForm
    ) -> tuple[Tensor, Tensor]:
        """Pixels, and the numbers of their classes, which are never interpolated."""
        name = image
        try:
            with Image.open(content[image]) as picture:
                turn, size = picture.getexif().get(Base.Orientation, 1), picture.size
                pixels = to_pixels(picture, form.shape)
            name = mask
            with Image.open(content[mask]) as file:
                drawn = self._turned(file, turn, size, image, mask)
                wanted = COLOURS if self.colours else IDS
                if drawn.mode not in wanted:
                    hint = "say by `colours` what they are of" if not self.colours else "leave out `colours`"
                    raise UserError(f"{self.path}/{mask} has {_what(drawn.mode)} (mode {drawn.mode}); {hint}")
                drawn = drawn.convert("RGB") if self.colours else drawn
                fitted = ImageOps.fit(drawn, (form.width, form.height), Image.Resampling.NEAREST)
                values = np.asarray(fitted).astype(np.int64)
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{self.path}/{name} is broken ({error}); mend or remove it") from None
        if self.colours:
            values = values @ np.array([65536, 256, 1])
        known, places = np.unique(values, return_inverse=True)
        if unknown := [value for value in known.tolist() if value not in number]:
            what = f"colour {_colour(unknown[0])}" if self.colours else f"class {unknown[0]}"
            where = "`colours`" if self.colours else "`classes`" if self.classes is not None else LISTED
            raise UserError(
                f"{self.path}/{mask} has pixels of {what}, which {where} has not; list it there, or name it in `ignore`"
            )
        found = np.array([number[value] for value in known.tolist()])[places.reshape(form.height, form.width)]
        return pixels, torch.from_numpy(found)

    def _turned(self, drawn: Image.Image, turn: int, size: tuple[int, int], image: str, mask: str) -> Image.Image:
        """The mask as its image is shown, which EXIF data says to `turn`: it was drawn before, or on the upright picture."""
        upright = size[::-1] if turn in TURNED else size
        own = drawn.getexif().get(Base.Orientation, 1)
        if drawn.size not in (size, upright):
            raise UserError(f"{self.path}/{mask} has {drawn.size} pixels, its image {image} has {upright}")
        if turn == 1 or own != 1:
            return ImageOps.exif_transpose(drawn)
        if size == upright:
            raise UserError(
                f"{self.path}/{image}: its EXIF data turns it, and nothing says whether the mask {mask} was drawn before or "
                "after; save the image upright, without EXIF data"
            )
        if drawn.size == upright:
            return drawn
        drawn.getexif()[Base.Orientation] = turn
        return ImageOps.exif_transpose(drawn)


def _key(value: int | Sequence[int]) -> int:
    """A class number as it is, a colour as one number."""
    return value if isinstance(value, int) else value[0] * 65536 + value[1] * 256 + value[2]


def _colour(key: int) -> str:
    return f"[{key >> 16}, {key >> 8 & 255}, {key & 255}]"


def _what(mode: str) -> str:
    return "colours, and no numbers of classes" if mode in COLOURS else "pixels of which nothing says what they mean"


def _pattern(text: str, split: str) -> re.Pattern[str]:
    """What finds a stem in a path."""
    body, ending = (text.removesuffix(ANY), r"\.[^./]+") if text.endswith(ANY) else (text, "")
    parts = re.split(r"(\{split\}|\{stem\}|\*)", body)
    turned = {"{split}": re.escape(split), "{stem}": "(?P<stem>[^/]+)", "*": "[^/]*"}
    return re.compile("".join(turned.get(part, re.escape(part)) for part in parts) + ending)


def _classes(text: str, where: str) -> dict[int, str]:
    """Number -> name; a colour behind it, three numbers, is of its palette."""
    found = {}
    for line in text.splitlines():
        if not (line := line.strip()) or line.startswith("#"):
            continue
        match = re.fullmatch(r"(\d+)[\s,:]+(.*?)((?:[\s,]+\d+){3})?", line)
        if not match or not match[2] or int(match[1]) > 65535:
            raise UserError(f"{where}: '{line}' is not a number of 0 to 65535 and a name")
        found[int(match[1])] = match[2]
    return found
