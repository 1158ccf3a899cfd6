"""The files of a folder, or of a tar archive as if it were one."""

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from stages.support.errors import UserError
from stages.support.files import elsewhere

LARGEST = 2**28  # bytes of a file in an archive that are read into memory


class Files:
    """`names`, of files relative to the folder; `opened` yields some of them with their content."""

    names: list[str]

    def opened(self, names: Iterable[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Name and content of each, in the order in which they are read fastest."""
        raise NotImplementedError


class Folder(Files):
    """The files of a folder on disk."""

    def __init__(self, root: Path):
        self.root = root
        self.names = [path.relative_to(root).as_posix() for path in walk(root)]

    def opened(self, names: Iterable[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield the opened files in their order."""
        return ((name, (self.root / name).open("rb")) for name in names)


def walk(root: Path) -> Iterator[Path]:
    """All files, those behind links to folders too; a link back to a folder that it lies in is not followed."""
    for folder, inner, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        above = {os.path.realpath(parent) for parent in Path(folder).parents if parent.is_relative_to(root)}
        inner.sort()
        if real in above:
            inner.clear()
            continue
        yield from (path for file in files if (path := Path(folder, file)).is_file())


class Archive(Files):
    """The files of an open archive (.tar, .tar.gz, .tar.xz), read once from front to end, with its links."""

    def __init__(self, archive: tarfile.TarFile):
        self.archive = archive
        self.members = {PurePosixPath(member.name).as_posix(): member for member in archive if not member.isdir()}
        self.names = list(self.members)

    def opened(self, names: Iterable[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """In the order of the archive: going back in an .xz means starting over.

        A link that leads nowhere is empty, and so is what is larger than any image.
        """
        for name in sorted(names, key=lambda name: self.members[name].offset):
            try:
                file = self.archive.extractfile(self.members[name])
            except KeyError:
                file = None
            content = file.read(LARGEST + 1) if file else b""
            yield name, io.BytesIO(content if len(content) <= LARGEST else b"")


@contextmanager
def archive(path: str) -> Iterator[Archive]:
    """The archive at `path`; raises UserError where it is missing or broken."""
    try:
        with tarfile.open(path) as file:
            yield Archive(file)
    except FileNotFoundError:
        raise UserError(f"the archive {path} is missing; put it there, or set `path` to where it is{elsewhere()}") from None
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"the archive {path} cannot be read ({error}); is it complete?") from None


@contextmanager
def folder_or_archive(path: str) -> Iterator[Files]:
    """Whichever stands at `path`."""
    if Path(path).is_dir():
        yield Folder(Path(path))
    else:
        with archive(path) as files:
            yield files
