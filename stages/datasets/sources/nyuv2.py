"""NYU Depth v2 as its authors give it: rooms, with 13 classes of pixels (Silberman et al. 2012; Couprie et al. 2013)."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from stages.datasets.examples import Examples, pack
from stages.datasets.images import ImageForm, to_pixels
from stages.support.errors import UserError
from stages.support.extras import optional
from stages.support.progress import progress
from stages.support.sections import Section

LABELED, SPLITS, TO_40, TO_13 = "nyu_depth_v2_labeled.mat", "splits.mat", "classMapping40.mat", "class13Mapping.mat"
CLASSES = (
    "bed",
    "books",
    "ceiling",
    "chair",
    "floor",
    "furniture",
    "objects",
    "picture",
    "sofa",
    "table",
    "tv",
    "wall",
    "window",
)


class Source(Section):
    """A folder `path` with the set's own files: nyu_depth_v2_labeled.mat and splits.mat, and classMapping40.mat and
    class13Mapping.mat of its meta data, which map 894 names to 40 classes and these to 13. 795 images for training, 654 for
    testing; what is in none of the 13 is not labelled. Wants h5py: `uv sync --group nyuv2`.
    """

    source: Literal["nyuv2"]
    path: str

    def read(self, form: ImageForm) -> Examples:
        """The images for training; raises UserError for a file that is missing or not what its name says."""
        return self._split("trainNdxs", form)

    def read_test(self, form: ImageForm) -> Examples:
        """Read the images that the data set sets aside for testing."""
        return self._split("testNdxs", form)

    def _split(self, name: str, form: ImageForm) -> Examples:
        h5py = optional("h5py", "nyuv2")
        for file in (LABELED, SPLITS, TO_40, TO_13):
            if not (Path(self.path) / file).is_file():
                raise UserError(
                    f"{self.path}/{file} is missing; the source `nyuv2` takes the four files of the set and its meta data"
                )
        rows = self._matlab(SPLITS, name).ravel().astype(int) - 1
        to_40, to_13 = (np.append(0, table.ravel().astype(int)) for table in (self._matlab(TO_40, "mapClass"), self._thirteen()))
        size = (form.width, form.height)
        inputs, labels = [], []
        with h5py.File(Path(self.path) / LABELED) as file:
            for row in progress(rows, f"{self.path}, {name}"):
                # Columns before rows, as Matlab writes.
                inputs.append(to_pixels(Image.fromarray(file["images"][row].T), form.shape))
                classes = to_13[to_40[file["labels"][row].T]].astype(np.uint8)
                fitted = ImageOps.fit(Image.fromarray(classes), size, Image.Resampling.NEAREST)
                labels.append(torch.from_numpy(np.array(fitted)).long() - 1)  # 0 is no class
        return pack(torch.stack(inputs), torch.stack(labels), CLASSES)

    def _thirteen(self) -> Any:
        """40 classes -> 13: the first field of a structure."""
        return self._matlab(TO_13, "classMapping13")[0, 0][0]

    def _matlab(self, file: str, name: str) -> Any:
        from scipy.io import loadmat

        path = Path(self.path) / file
        try:
            return loadmat(path)[name]
        except (KeyError, ValueError, NotImplementedError) as error:
            raise UserError(f"{path} has no `{name}` ({error}); is it the set's own file?") from None
