"""Images with a mask each: folders and archives of them, scenes of digits, and what is wrong with a set, by the file's name."""

import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from stages.datasets.examples import UNKNOWN
from stages.datasets.images import ImageForm
from stages.datasets.sources.digit_scenes import Source as DigitScenes
from stages.datasets.sources.masks import Source as Masks
from stages.kinds.segmentation.splits import held_out
from stages.support.errors import UserError

FORM = ImageForm(size=[8, 12], channels=3)


@pytest.fixture
def street(tmp_path):
    """Three images of 16 x 24 pixels, left half class 4, right half class 7, a corner of class 9, which is void."""
    for split, names in {"train": "abc", "val": "d"}.items():
        for part in ("images", "labels"):
            (tmp_path / split / part).mkdir(parents=True)
        for name in names:
            mask = np.full((16, 24), 4, dtype=np.uint8)
            mask[:, 12:] = 7
            mask[:4, :4] = 9
            Image.fromarray(np.stack([mask * 20] * 3, 2)).save(tmp_path / f"{split}/images/{name}.png")
            Image.fromarray(mask).save(tmp_path / f"{split}/labels/{name}.png")
    (tmp_path / "classes.txt").write_text("# id name colour\n7 road 1 2 3\n4, sky\n9 void\n")
    return tmp_path


def read(path, **options):
    return Masks(source="masks", path=str(path), train="train", test="val", ignore=9, **options).read(FORM)


def test_masks_are_shrunk_without_interpolation_and_void_is_not_labelled(street):
    examples = read(street)
    assert examples.classes == ("sky", "road")
    assert examples.label.shape == (3, 8, 12)
    expected = torch.zeros(8, 12, dtype=torch.int64)
    expected[:, 6:] = 1
    expected[:2, :2] = UNKNOWN
    assert all(torch.equal(label, expected) for label in examples.label)
    assert (examples.input[:, 0, 4, :5] == 80).all()
    assert (examples.input[:, 0, 4, 7:] == 140).all()
    assert len(Masks(source="masks", path=str(street), test="val", ignore=9).read_test(FORM)) == 1


def test_an_archive_gives_what_its_folder_gives(street, tmp_path_factory):
    archive = tmp_path_factory.mktemp("archive") / "street.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(street, ".")
    one, two = read(street), read(archive)
    assert torch.equal(one.input, two.input)
    assert torch.equal(one.label, two.label)


def wrong_id(folder):
    Image.fromarray(np.full((16, 24), 5, dtype=np.uint8)).save(folder / "train/labels/b.png")


def smaller(folder):
    Image.fromarray(np.full((15, 24), 4, dtype=np.uint8)).save(folder / "train/labels/b.png")


def coloured(folder):
    Image.fromarray(np.zeros((16, 24, 3), dtype=np.uint8)).save(folder / "train/labels/b.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (wrong_id, r"train/labels/b\.png has pixels of class 5, which classes\.txt has not"),
        (smaller, r"train/labels/b\.png has \(24, 15\) pixels, its image train/images/b\.png has \(24, 16\)"),
        (coloured, r"train/labels/b\.png has no class ids of 8 bits, but colours"),
        (lambda folder: (folder / "train/labels/b.png").unlink(), r"train/images/b\.png has no mask of its name"),
        (lambda folder: (folder / "train/images/b.png").unlink(), r"train/labels/b\.png has no image of its name"),
        (lambda folder: (folder / "train/images/b.png").write_bytes(b"no"), r"train/images/b\.png is broken"),
        (lambda folder: (folder / "classes.txt").unlink(), r"has no classes\.txt; expected PATH/SPLIT/images"),
        (lambda folder: (folder / "classes.txt").write_text("sky\n"), r"classes\.txt: 'sky' is not an id of 0 to 255 and a name"),
    ],
)
def test_what_is_wrong_is_named(spoil, message, street):
    spoil(street)
    with pytest.raises(UserError, match=message):
        read(street)


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere is missing"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no image under 'train/images'"):
        read(tmp_path)


def test_scenes_are_the_same_every_time_and_splits_share_no_digit():
    source = DigitScenes(source="digit_scenes", count=60, test=20)
    form = ImageForm(size=[32, 40], channels=1)
    whole, again, test = source.read(form), source.read(form), source.read_test(form)
    assert torch.equal(whole.input, again.input)
    assert torch.equal(whole.label, again.label)
    assert whole.classes == ("ground", *"0123456789")
    assert whole.label.shape == (60, 32, 40)
    assert set(whole.label.unique().tolist()) == set(range(11))
    # The last tenth is what prepare holds out: more scenes of the other parts leave it as it is.
    held = held_out(whole, 0.1)[1]
    more = DigitScenes(source="digit_scenes", count=120, test=20).read(form)
    assert torch.equal(held_out(more, 0.1)[1].input[:6], held.input)
    assert torch.equal(more.input[:54], whole.input[:54])
    assert not (test.input[:6, None] == held.input[None]).flatten(2).all(2).any()


def test_a_mask_lies_where_the_ink_is():
    """Ink is brighter than the ground around it, on average over a digit."""
    scenes = DigitScenes(source="digit_scenes", count=60, test=5).read(ImageForm(size=32, channels=1))
    for image, label in zip(scenes.input[:, 0].float(), scenes.label, strict=True):
        ink = label > 0
        near = torch.nn.functional.max_pool2d(ink[None].float(), 7, 1, 3)[0].bool() & ~ink
        assert image[ink].mean() > image[near].mean() + 25
