"""A tar archive of an image folder."""

from typing import Literal

from stages.datasets.examples import Examples
from stages.datasets.images import ImageForm
from stages.datasets.sources._files import archive
from stages.datasets.sources._tree import Tree, decode
from stages.support.errors import UserError


class Source(Tree):
    """A tar archive (.tar, .tar.gz, .tar.xz) of an image folder, read once from front to end."""

    source: Literal["tar"]

    def _listed(self) -> list[str]:
        with archive(self.path) as found:
            return found.names

    def _under(self, top: str, form: ImageForm) -> Examples:
        with archive(self.path) as found:
            class_of, classes = self._members(found.names, top)
            if not self._fits(len(class_of), form):
                raise UserError(
                    f"{self.path}: {len(class_of):,} images are more than {self.pack_gb} GB once decoded; unpack the archive and "
                    "take `source: folder`, which reads them as they are wanted, or raise `pack_gb`"
                )
            return decode(found.opened(class_of), class_of, classes, self.path, form, keep=True)
