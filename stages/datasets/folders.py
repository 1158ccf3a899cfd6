"""Image folders and archives of them, in torchvision's ImageFolder layout: one sub-folder a class."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from stages.datasets.images import UNKNOWN, ImageSet, to_pixels
from stages.errors import UserError
from stages.progress import progress
from stages.sections import Section

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
LAYOUT = "expected PATH/CLASS/image.png (.jpg, ...) with one sub-folder a class; a pool of OOD images needs no sub-folders"


class _Tree(Section):
    """What folders and archives share: which sub-folders hold train and test, and which classes to keep.

    Without `test`, prepare splits off 30 % of `train`. `classes` names class folders, or a text file with one name a line.
    """

    path: str
    train: str = "."
    test: str | None = None
    classes: list[str] | str | None = None

    def _kept(self) -> list[str] | None:
        if not isinstance(self.classes, str):
            return self.classes
        try:
            return Path(self.classes).read_text().split()
        except FileNotFoundError:
            raise UserError(f"the list of classes {self.classes} is missing; write one class folder's name a line") from None

    def read(self, channels: int, size: int) -> ImageSet:
        """The images under `train`. Raises UserError where the source is missing, empty, or holds too many broken files."""
        return self._under(self.train, channels, size)

    def read_test(self, channels: int, size: int) -> ImageSet | None:
        """The images under `test`, or None where there is no such part."""
        return None if self.test is None else self._under(self.test, channels, size)

    def _under(self, top: str, channels: int, size: int) -> ImageSet:
        raise NotImplementedError

    def _members(self, names: list[str], top: str) -> tuple[list[str], list[str]]:
        """The image files under `top` (sorted) and their classes; a class is '' for a file outside any class folder."""
        kept = self._kept()
        files, classes = [], []
        for name in sorted(names):
            path = PurePosixPath(name)
            if path.suffix.lower() in ENDINGS and path.is_relative_to(top):
                inner = path.relative_to(top).parts
                label = inner[0] if len(inner) > 1 else ""
                if kept is None or label in kept:
                    files.append(name)
                    classes.append(label)
        if not files:
            only = f" of the {len(kept)} classes in `classes`" if kept is not None else ""
            raise UserError(f"{self.path} holds no image{only} under '{top}'; {LAYOUT}")
        if kept and (absent := sorted(set(kept) - set(classes))):
            raise UserError(f"{self.path} has no image of {', '.join(absent[:5])} under '{top}', which `classes` names")
        return files, classes


class Folder(_Tree):
    """An image folder. A set above `pack_gb` GB once decoded is not packed but read from its folder in every epoch."""

    source: Literal["folder"]
    pack_gb: float = Field(8.0, gt=0)

    def _under(self, top: str, channels: int, size: int) -> ImageSet:
        root = Path(self.path)
        if not root.is_dir():
            raise UserError(f"the image folder {root} is missing; {LAYOUT}")
        names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        files, classes = self._members(names, top)
        opened = ((name, (root / name).open("rb")) for name in files)
        keep = len(files) * channels * size**2 <= self.pack_gb * 1e9
        images = _decode(opened, dict(zip(files, classes, strict=True)), self.path, channels, size, keep)
        if keep:
            return images
        return ImageSet(
            None, images.labels, images.index, images.classes, channels, size, tuple(str(root / f) for f in images.files)
        )


class Tar(_Tree):
    """A tar archive (.tar, .tar.gz, .tar.xz) of an image folder, read once from front to end."""

    source: Literal["tar"]

    def _under(self, top: str, channels: int, size: int) -> ImageSet:
        try:
            with tarfile.open(self.path) as archive:
                members = {_posix(m.name): m for m in archive if m.isfile()}
                files, classes = self._members(list(members), top)
                by_place = sorted(files, key=lambda name: members[name].offset)  # going back in an .xz means starting over
                opened = ((name, _extract(archive, members[name])) for name in by_place)
                return _decode(opened, dict(zip(files, classes, strict=True)), self.path, channels, size, keep=True)
        except FileNotFoundError:
            raise UserError(f"the archive {self.path} is missing; put it there, or set `path` to where it is") from None
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"the archive {self.path} cannot be read ({error}); is it complete?") from None


def _posix(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    return io.BytesIO(b"" if file is None else file.read())


def _decode(
    opened: Iterator[tuple[str, IO[bytes]]], class_of: dict[str, str], where: str, channels: int, size: int, keep: bool
) -> ImageSet:
    """Decode every file; broken ones are named and skipped, up to 1 % of all or 3.

    The result is in the order of `class_of`, whose places are its `index`; with `keep` false the pixels are dropped.
    """
    limit = max(3, len(class_of) // 100)
    decoded: dict[str, Tensor | None] = {}
    broken: list[str] = []
    for name, file in progress(opened, where, total=len(class_of)):
        try:
            with file, Image.open(file) as image:
                picture = to_pixels(image, channels, size)
            decoded[name] = picture if keep else None
        except (OSError, SyntaxError, ValueError) as error:
            broken.append(name)
            print(f"skipped {where}/{name}: {error}", flush=True)
            if len(broken) > limit:
                raise UserError(
                    f"{where}: more than {limit} broken images, {', '.join(broken[:3])} among them; mend or remove them"
                ) from None
    names = [name for name in class_of if name in decoded]
    if not names:
        raise UserError(f"{where}: all {len(broken)} images are broken ({', '.join(broken[:3])}); mend or replace them")
    classes = tuple(sorted(set(class_of.values()) - {""}))
    number = {label: i for i, label in enumerate(classes)} | {"": UNKNOWN}
    place = {name: i for i, name in enumerate(class_of)}
    return ImageSet(
        torch.stack([pixels for name in names if (pixels := decoded[name]) is not None]) if keep else None,
        torch.tensor([number[class_of[name]] for name in names]),
        torch.tensor([place[name] for name in names]),
        classes,
        channels,
        size,
        () if keep else tuple(names),
    )
