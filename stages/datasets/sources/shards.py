"""Shards of images, tar files as WebDataset writes them: a pool that may be larger than a disk."""

import gzip
import io
import os
import re
import tarfile
import zlib
from collections.abc import Collection, Iterator
from lzma import LZMAError
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal, NamedTuple

import fsspec
import torch
from PIL import Image
from torch import Tensor

from stages.datasets.examples import INDEX, INPUT, Examples
from stages.datasets.images import IMAGES, ImageForm, to_pixels
from stages.datasets.sources._tree import BROKEN, ENDINGS, MAC
from stages.support.errors import UserError
from stages.support.sections import Section

MOST, PIXELS = 256, 2**20  # images of a batch: so many, fewer where they are large
CUT = (tarfile.TarError, EOFError, zlib.error, LZMAError, gzip.BadGzipFile)  # what reading an archive raises that is damaged
CHANGED = ("ETag", "etag", "mtime", "LastModified", "last_modified")  # by which file systems tell that a file is another


class Damaged(NamedTuple):
    """Names of images that cannot be read, their places among those of their shard, and shards that end too early.

    What stands before such an end counts.
    """

    images: list[str]
    places: list[int]
    shards: list[str]

    def tell(self, read: int, shards: int, where: str) -> None:
        """Print them. Raises UserError where nothing was read, or more than 1 % is damaged (3 images and a shard may be)."""
        for what, names, every in (("images", self.images, read + len(self.images)), ("shards", self.shards, shards)):
            if names:
                print(f"{where}: {len(names):,} of {every:,} {what} are damaged: {', '.join(names[:5])}")
        if not read:
            raise UserError(f"{where} holds no image that can be read")
        if len(self.images) > max(3, read // 100) or len(self.shards) > max(1, shards // 100):
            raise UserError(f"{where}: too much of it is damaged; mend or remove that")


class Source(Section):
    """Images in tar files: `path` is one, or a pattern, `data/shards/*.tar` or `s3://bucket/pool-{000..127}.tar`.

    Any URL will do that fsspec knows. As the pool of a task nothing of it is read before `curate`, which streams the shards
    through the teacher and keeps `curate.count` images.
    """

    gives: ClassVar[str | None] = IMAGES
    source: Literal["shards"]
    path: str

    def shards(self) -> list[dict[str, Any]]:
        """`path`, `bytes` and `changed` of each, in the order of their names. Raises UserError where there is none."""
        try:
            missing, wanted = self.path, [fsspec.core.url_to_fs(one) for one in braced(self.path)]
            infos = [(path, system.info(path)) for system, one in wanted for path in found_by(system, one)]
            infos.sort(key=lambda found: found[0])
        except (ImportError, ValueError) as error:  # of a protocol that is not installed, or unknown
            raise UserError(f"{self.path}: {error}") from None
        except FileNotFoundError as error:
            infos, missing = [], str(error.filename or error) if len(wanted) > 1 else self.path
        if not infos:
            raise UserError(f"there are no shards at {missing}; put tar files of images there, or set `path` to where they are")
        if inner := next((path for path, info in infos if info["type"] == "directory"), None):
            raise UserError(f"{inner} is a folder; write which files in it are shards, such as {self.path.rstrip('/')}/*.tar")
        system = wanted[0][0]
        here = "file" in system.protocol and not os.path.isabs(self.path)  # as it is written, so that a clone finds it too
        return [
            {
                "path": os.path.relpath(path) if here else system.unstrip_protocol(path),
                "bytes": info.get("size") or 0,
                "changed": next((str(info[key]) for key in CHANGED if key in info), ""),
            }
            for path, info in infos
        ]

    def read(self, form: ImageForm) -> Examples:
        """All images, in memory. Raises UserError as `Damaged.tell`."""
        names, parts, damaged = list[str](), list[Tensor](), Damaged([], [], [])
        for one in (shards := self.shards()):
            for some, images in batches(one["path"], form, damaged):
                names += some
                parts.append(images)
        damaged.tell(len(names), len(shards), self.path)
        return Examples({INPUT: torch.cat(parts), INDEX: torch.arange(len(names))}, files=tuple(names))

    def read_test(self, form: ImageForm) -> None:
        """Shards have no test part."""


def braced(path: str) -> list[str]:
    """The paths that braces stand for: of {000..127} those of all numbers with as many digits, of {a,b} both."""
    if not (match := re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", path)):
        return [path]
    low, high, words = match.groups()
    middle = words.split(",") if words else [f"{n:0{len(low)}d}" for n in range(int(low), int(high) + 1)]
    return [whole for one in middle for whole in braced(f"{path[: match.start()]}{one}{path[match.end() :]}")]


def found_by(system: Any, path: str) -> list[str]:
    """The files of a pattern with *, ? or [...]; a path without these as it is."""
    return list(system.glob(path)) if re.search(r"[*?\[]", path) else [path]


class _Member(tarfile.TarInfo):
    """What stands in an archive. One that is whole ends in a block of zeros; tarfile does not miss it."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Member":
        """The next member; raises at the end, and notes there that it is one."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            archive.ended = True  # type: ignore[attr-defined]
            raise


def batches(
    path: str, form: ImageForm, damaged: Damaged, only: Collection[int] | None = None
) -> Iterator[tuple[list[str], Tensor]]:
    """Names, SHARD/MEMBER, and images (b, C, H, W), uint8, of a shard, read once from front to end; of `only` those places.

    What cannot be read is added to `damaged`. Raises OSError for a shard that is not there.
    """
    names, images, size = list[str](), list[Tensor](), max(1, min(MOST, PIXELS // (form.height * form.width)))
    place = -1
    with fsspec.open(path) as file:
        try:
            with tarfile.open(fileobj=file, mode="r|*", tarinfo=_Member) as archive:
                for member in archive:
                    name = PurePosixPath(member.name.encode(errors="replace").decode())
                    if not member.isfile() or name.suffix.lower() not in ENDINGS or name.name.startswith(MAC):
                        continue
                    place += 1
                    if only is not None and place not in only:
                        continue
                    content = archive.extractfile(member)
                    assert content is not None  # it is a file
                    whole = content.read()
                    try:
                        with Image.open(io.BytesIO(whole)) as image:
                            images.append(to_pixels(image, form.shape))
                    except BROKEN:
                        damaged.images.append(f"{path}/{name}")
                        damaged.places.append(place)
                        continue
                    names.append(f"{path}/{name}")
                    if len(names) == size:
                        yield names, torch.stack(images)
                        names, images = [], []
                if not getattr(archive, "ended", False):
                    damaged.shards.append(path)
        except CUT:
            damaged.shards.append(path)
    if names:
        yield names, torch.stack(images)
