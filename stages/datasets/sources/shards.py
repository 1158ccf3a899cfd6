"""Shards of images, tar files as WebDataset writes them: a pool that may be larger than a disk."""

import io
import tarfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

import fsspec
import torch
from PIL import Image
from torch import Tensor

from stages.datasets.examples import INDEX, INPUT, Examples
from stages.datasets.images import IMAGES, ImageForm, to_pixels
from stages.datasets.sources._tree import BROKEN, ENDINGS, MAC
from stages.support.errors import UserError
from stages.support.sections import Section

BATCH = 256
CUT = (tarfile.TarError, EOFError, OSError, zlib.error, LZMAError)  # what reading an archive raises that ends too early


class Source(Section):
    """Images in tar files: `path` is a file, or several by a pattern, `data/shards/*.tar` or `s3://bucket/pool-*.tar`.

    Any URL will do that fsspec knows. As the pool of a task nothing of it is read before `curate`, which streams the shards
    through the teacher and keeps `curate.count` images.
    """

    gives: ClassVar[str | None] = IMAGES
    source: Literal["shards"]
    path: str

    def shards(self) -> list[dict[str, Any]]:
        """`path` and `bytes` of each, in the order of their names. Raises UserError where there is none."""
        try:
            system, _, paths = fsspec.get_fs_token_paths(self.path)
            found = [{"path": system.unstrip_protocol(path), "bytes": system.size(path)} for path in sorted(paths)]
        except (ImportError, ValueError) as error:  # of a protocol that is not installed, or unknown
            raise UserError(f"{self.path}: {error}") from None
        except FileNotFoundError:
            found = []
        if not found:
            raise UserError(f"there are no shards at {self.path}; put tar files of images there, or set `path` to where they are")
        return found

    def read(self, form: ImageForm) -> Examples:
        """All images, in memory; damaged ones are named and left out. Raises UserError where there is none."""
        names, parts, damaged = list[str](), list[Tensor](), list[str]()
        for one in self.shards():
            for some, images in batches(one["path"], form, damaged):
                names += some
                parts.append(images)
        for what in damaged[:5]:
            print(f"skipped {what}")
        if not names:
            raise UserError(f"{self.path} holds no image that can be read")
        return Examples({INPUT: torch.cat(parts), INDEX: torch.arange(len(names))}, files=tuple(names))

    def read_test(self, form: ImageForm) -> None:
        """Shards have no test part."""


def batches(path: str, form: ImageForm, damaged: list[str]) -> Iterator[tuple[list[str], Tensor]]:
    """Names, SHARD/MEMBER, and images (b, C, H, W), uint8, of a shard, read once from front to end, b at most BATCH.

    What cannot be read is added to `damaged`: images, and a shard that ends too early, whose images before that count.
    """
    names, images = list[str](), list[Tensor]()
    try:
        with fsspec.open(path) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if not member.isfile() or name.suffix.lower() not in ENDINGS or name.name.startswith(MAC):
                    continue
                content = archive.extractfile(member)
                assert content is not None  # it is a file
                whole = content.read()
                try:
                    with Image.open(io.BytesIO(whole)) as image:
                        images.append(to_pixels(image, form.shape))
                except BROKEN:
                    damaged.append(f"{path}/{name}")
                    continue
                names.append(f"{path}/{name}")
                if len(names) == BATCH:
                    yield names, torch.stack(images)
                    names, images = [], []
    except CUT as error:
        damaged.append(f"{path} ({error})")
    if names:
        yield names, torch.stack(images)
