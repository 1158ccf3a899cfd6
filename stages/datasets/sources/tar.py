"""A tar archive of an image folder."""

import io
import tarfile
from pathlib import PurePosixPath
from typing import IO, Literal

from stages.datasets.examples import Examples
from stages.datasets.images import ImageForm
from stages.datasets.sources._tree import Tree, decode
from stages.support.errors import UserError


class Source(Tree):
    """A tar archive (.tar, .tar.gz, .tar.xz) of an image folder, read once from front to end."""

    source: Literal["tar"]

    def _under(self, top: str, form: ImageForm) -> Examples:
        try:
            with tarfile.open(self.path) as archive:
                members = {_posix(m.name): m for m in archive if m.isfile()}
                files, classes = self._members(list(members), top)
                by_place = sorted(files, key=lambda name: members[name].offset)  # going back in an .xz means starting over
                opened = ((name, _extract(archive, members[name])) for name in by_place)
                return decode(opened, dict(zip(files, classes, strict=True)), self.path, form, keep=True)
        except FileNotFoundError:
            raise UserError(f"the archive {self.path} is missing; put it there, or set `path` to where it is") from None
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"the archive {self.path} cannot be read ({error}); is it complete?") from None


def _posix(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    return io.BytesIO(b"" if file is None else file.read())
