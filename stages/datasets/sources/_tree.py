"""What image folders and archives of them share, in torchvision's ImageFolder layout: one sub-folder a class."""

import math
import os
import re
import struct
import unicodedata
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import PurePosixPath
from typing import IO

import torch
from PIL import Image

from stages.datasets.examples import INDEX, INPUT, LABEL, PACK_GB, UNKNOWN, Examples
from stages.datasets.images import ImageForm, to_pixels
from stages.support.errors import UserError
from stages.support.files import listed
from stages.support.progress import progress
from stages.support.sections import Rate, Section, Word

ENDINGS = {".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm"}
BROKEN = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)  # what reading a damaged file raises
AT_ONCE = 2 * (os.cpu_count() or 1)  # files that are open; those of an archive are in memory
MAC = "._"  # how files begin that macOS leaves beside others
TOOLS = ("@eaDir", "__MACOSX", "#recycle")  # folders that tools leave, beside those whose names begin with a dot
YOLO = {"images", "labels"}
LAYOUT = "expected PATH/CLASS/image.png (.jpg, ...) with one sub-folder a class; a pool of OOD images needs no sub-folders"


class Tree(Section):
    """What folders and archives share: which sub-folders hold train and test, and which classes to keep.

    Without `test`, prepare splits off a part of `train`. `classes` names class folders, in the order of their numbers, or a text
    file with one name a line; in a list, what ends in `.txt` is such a file. Without it all are taken, 9 before 10. A set above
    `pack_gb` GB once decoded is not packed: a folder's images are read from there in every epoch, an archive is refused.
    """

    path: str
    train: str = "."
    test: str | None = None
    classes: list[Word] | str | None = None
    pack_gb: Rate = PACK_GB

    def read(self, form: ImageForm) -> Examples:
        """The images under `train`. Raises UserError where the source is missing, empty, or holds too many broken files."""
        return self._under(self.train, form)

    def read_test(self, form: ImageForm) -> Examples | None:
        """The images under `test`, or None where there is no such part."""
        return None if self.test is None else self._under(self.test, form)

    def _under(self, top: str, form: ImageForm) -> Examples:
        raise NotImplementedError

    def _listed(self) -> list[str]:
        """The names of all files."""
        raise NotImplementedError

    def check_labelled(self) -> None:
        """Raise UserError, before anything is read, where the images are not in sub-folders, a class each."""
        names = self._listed()
        class_of, classes = self._members(names, self.train)
        known = [top for top in (self.train, self.test) if top is not None]
        pictures = [PurePosixPath(name) for name in names if PurePosixPath(name).suffix.lower() in ENDINGS]
        if left := sum(not any(path.is_relative_to(top) for top in known) for path in pictures):
            print(f"{self.path}: {left:,} images are under none of {', '.join(known)}, and are left out")
        if set(classes) and set(classes) <= YOLO:
            raise UserError(
                f"{self.path} has the layout of YOLO, whose labels are boxes; give images in one sub-folder a class, or "
                "`labels: none`"
            )
        if bare := next((name for name, label in class_of.items() if not label), None):
            raise UserError(
                f"{self.path}/{bare} lies in no class's folder; {LAYOUT}. Where nobody knows the classes, say `labels: none`"
            )

    def _fits(self, count: int, form: ImageForm) -> bool:
        return count * math.prod(form.shape) <= self.pack_gb * 1e9

    def _members(self, names: list[str], top: str) -> tuple[dict[str, str], tuple[str, ...]]:
        """The image files under `top` (sorted) with their classes ('' outside any class folder), and the order of classes."""
        kept = None if self.classes is None else list(dict.fromkeys(listed(self.classes)))
        files, classes, others = [], [], Counter[str]()
        for name in sorted(names):
            path = PurePosixPath(name)
            if not path.is_relative_to(top):
                continue
            if tool := next((part for part in path.relative_to(top).parent.parts if of_a_tool(part)), None):
                others[f"{tool}/"] += 1
                continue
            what = f"{MAC}..." if path.name.startswith(MAC) else path.suffix.lower()
            if what not in ENDINGS:
                others[what or path.name] += 1
            else:
                inner = path.relative_to(top).parts
                label = unicodedata.normalize("NFC", inner[0]) if len(inner) > 1 else ""
                if kept is None or label in kept:
                    files.append(name)
                    classes.append(label)
        if others:
            print(f"{self.path}: left out what is no image: {', '.join(f'{n} {what}' for what, n in others.most_common(5))}")
        if not files:
            only = f" of the {len(kept)} classes in `classes`" if kept is not None else ""
            raise UserError(f"{self.path} holds no image{only} under '{top}'; {LAYOUT}")
        if kept and (absent := sorted(set(kept) - set(classes))):
            raise UserError(f"{self.path} has no image of {', '.join(absent[:5])} under '{top}', which `classes` names")
        order = sorted(set(classes) - {""}, key=natural) if kept is None else kept
        return dict(zip(files, classes, strict=True)), tuple(order)


def of_a_tool(folder: str) -> bool:
    """Whether a program left it beside a user's images."""
    return folder.startswith(".") or folder in TOOLS


def natural(name: str) -> list[tuple[str, int]]:
    """A key by which numbers in names are sorted by their size."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def decode(
    opened: Iterator[tuple[str, IO[bytes]]],
    class_of: dict[str, str],
    classes: tuple[str, ...],
    where: str,
    form: ImageForm,
    keep: bool,
) -> Examples:
    """Decode every file; broken ones are named and skipped, up to 1 % of all or 3.

    The result is in the order of `class_of`, whose places are its `index`; with `keep` false the pixels are dropped.
    """
    place = {name: i for i, name in enumerate(class_of)}
    limit = max(3, len(class_of) // 100)
    whole = torch.empty(len(class_of) if keep else 0, *form.shape, dtype=torch.uint8)
    good, broken = torch.zeros(len(class_of), dtype=torch.bool), list[str]()

    def read(name: str, file: IO[bytes]) -> Exception | None:
        """Put one file's pixels where they belong."""
        try:
            with file, Image.open(file) as image:
                pixels = to_pixels(image, form.shape)
        except BROKEN as error:
            return error
        if keep:
            whole[place[name]] = pixels
        good[place[name]] = True
        return None

    Image.init()  # in one thread: it registers formats
    with ThreadPoolExecutor(os.cpu_count()) as readers:  # decoders let other threads run
        files = iter(progress(opened, where, total=len(class_of)))
        while some := list(islice(files, AT_ONCE)):
            for (name, _), error in zip(some, readers.map(read, *zip(*some, strict=True)), strict=True):
                if error:
                    broken.append(name.encode(errors="replace").decode())
                    print(f"skipped {where}/{broken[-1]}: {error}", flush=True)
            if len(broken) > limit:
                raise UserError(
                    f"{where}: more than {limit} broken images, {', '.join(broken[:3])} among them; mend or remove them"
                )
    if not good.any():
        raise UserError(f"{where}: all {len(broken)} images are broken ({', '.join(broken[:3])}); mend or replace them")
    if broken:
        print(f"{where}: skipped {len(broken)} broken images of {len(class_of)}", flush=True)
    number = {label: i for i, label in enumerate(classes)} | {"": UNKNOWN}
    columns = {LABEL: torch.tensor([number[label] for label in class_of.values()]), INDEX: torch.arange(len(class_of))}
    columns |= {INPUT: whole} if keep else {}
    every = Examples(columns, classes, form.shape, tuple(f"{where}/{name}" for name in class_of))
    return every.subset(good.nonzero().flatten())
