"""NYU Depth v2, out of a tiny file of the official form."""

import numpy as np
import pytest
import torch
from scipy.io import savemat

from stages.datasets.examples import UNKNOWN
from stages.datasets.images import ImageForm
from stages.datasets.sources.nyuv2 import CLASSES, Source
from stages.support.errors import UserError

h5py = pytest.importorskip("h5py")


@pytest.fixture
def rooms(tmp_path):
    """Three rooms of 12 x 16 pixels. Names 1 to 4 are of classes 3, 1, 0 and 40 of 40, those of 7, 2, none and 13 of 13."""
    images, labels = np.zeros((3, 3, 16, 12), np.uint8), np.zeros((3, 16, 12), np.uint16)
    images[:, 0] = np.arange(3)[:, None, None] * 10
    images[:, 2, 8:] = 200  # blue from column 8 on
    labels[:, :8, :6], labels[:, 8:, :6] = 1, 2
    labels[:, :8, 6:], labels[:, 8:, 6:] = 3, 4
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"], file["labels"] = images, labels
    savemat(tmp_path / "splits.mat", {"trainNdxs": [[3], [1]], "testNdxs": [[2]]})
    savemat(tmp_path / "classMapping40.mat", {"mapClass": [[3, 1, 0, 40]]})
    of_40 = np.zeros(40, int)
    of_40[[2, 0, 39]] = 7, 2, 13
    savemat(tmp_path / "class13Mapping.mat", {"classMapping13": {"labels": of_40[None], "names": "n"}})
    return tmp_path


def test_rooms_are_read_upright_with_their_13_classes(rooms):
    source = Source(source="nyuv2", path=str(rooms))
    train, test = (read(ImageForm(size=[12, 16], channels=3)) for read in (source.read, source.read_test))
    assert (len(train), len(test), train.classes) == (2, 1, CLASSES)
    assert train.input[:, 0, 0, 0].tolist() == [20, 0]  # the third, then the first
    assert test.input[0, 0, 0, 0] == 10
    assert (train.input[0, 2, :, 8:] == 200).all()
    assert (train.input[0, 2, :, :8] == 0).all()
    expected = torch.empty(12, 16, dtype=torch.int64)
    expected[:6, :8], expected[:6, 8:], expected[6:, :8], expected[6:, 8:] = 6, 1, UNKNOWN, 12
    assert all(torch.equal(label, expected) for label in train.label)


def test_a_missing_or_another_file_is_named(rooms):
    source, form = Source(source="nyuv2", path=str(rooms)), ImageForm(size=[12, 16], channels=3)
    savemat(rooms / "classMapping40.mat", {"other": [1]})
    with pytest.raises(UserError, match=r"classMapping40\.mat has no `mapClass`"):
        source.read(form)
    (rooms / "splits.mat").unlink()
    with pytest.raises(UserError, match=r"splits\.mat is missing; the source `nyuv2` takes the four files"):
        source.read(form)
