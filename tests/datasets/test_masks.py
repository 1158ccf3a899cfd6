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
        (coloured, r"train/labels/b\.png has colours, and no numbers of classes .*; say by `colours`"),
        (lambda folder: (folder / "train/labels/b.png").unlink(), r"train/images/b\.png has no mask of its name"),
        (lambda folder: (folder / "train/images/b.png").unlink(), r"train/labels/b\.png has no image of its name"),
        (lambda folder: (folder / "train/images/b.png").write_bytes(b"no"), r"train/images/b\.png is broken"),
        (lambda folder: (folder / "classes.txt").unlink(), r"has no classes\.txt, a number and a name a line; or give `classes`"),
        (
            lambda folder: (folder / "classes.txt").write_text("sky\n"),
            r"classes\.txt: 'sky' is not a number of 0 to 65535 and a name",
        ),
    ],
)
def test_what_is_wrong_is_named(spoil, message, street):
    spoil(street)
    with pytest.raises(UserError, match=message):
        read(street)


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere is missing"):
        read(tmp_path / "nowhere")
    (tmp_path / "classes.txt").write_text("0 sky\n")
    with pytest.raises(UserError, match=r"has no image 'train/images/\{stem\}\.\*'; say by `images` where they lie"):
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


def drawn(value=4, size=(16, 24)):
    mask = np.full(size, value, dtype=np.uint8)
    mask[: size[0] // 2, : size[1] // 2] = 7  # the upper left quarter
    return mask


def test_an_image_that_exif_turns_lies_on_its_mask_whichever_way_this_was_drawn(street):
    """Turned by a quarter, the stored pixels are as wide as the upright ones are high."""
    mask = drawn()
    upright = Image.fromarray(np.stack([mask * 20] * 3, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    for name in "ab":
        stored.save(street / f"train/images/{name}.png", exif=exif)
    Image.fromarray(mask).save(street / "train/labels/a.png")
    Image.fromarray(mask).transpose(Image.Transpose.ROTATE_90).save(street / "train/labels/b.png")
    examples = read(street)
    for n in (0, 1):
        image, label = examples.input[n, 0], examples.label[n]
        assert torch.equal(label == 1, image > 110), n  # road, 7, is brighter
        assert label[:4, :6].eq(1).all()
    exif[0x0112] = 3  # upside down: as large as before
    upright.transpose(Image.Transpose.ROTATE_180).save(street / "train/images/c.png", exif=exif)
    with pytest.raises(UserError, match=r"train/images/c\.png: its EXIF data turns it, and nothing says whether the mask"):
        read(street)


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_numbers_of_classes_are_read_in_every_mode_that_has_some(street, mode):
    made = Image.fromarray(drawn().astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        made.putpalette([value for k in range(256) for value in (k, 255 - k, 3)])
    assert made.mode == mode
    made.save(street / "train/labels/a.png")
    assert read(street).label[0].eq(1).sum() == 4 * 6


def test_names_of_several_words_are_whole_and_one_name_is_one_class(street, capsys):
    (street / "classes.txt").write_text("7 traffic light 1 2 3\n4, traffic light\n9 void\n5 traffic sign\n")
    examples = read(street)
    assert examples.classes == ("traffic light", "traffic sign")
    assert examples.label[examples.label != UNKNOWN].unique().tolist() == [0]
    assert "no pixel under 'train' is of 'traffic sign'" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_of_classes_may_begin_with_a_mark(street, encoding):
    (street / "classes.txt").write_text("7 straße\n4 sky\n9 void\n", encoding=encoding)
    assert read(street).classes == ("sky", "straße")


def test_a_list_of_another_encoding_is_named(street):
    (street / "classes.txt").write_bytes("7 straße\n4 sky\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"classes\.txt is not UTF-8 \(byte 6\); save it as UTF-8"):
        read(street)


def test_the_layout_of_cityscapes(tmp_path):
    """Towns between the split and the file, masks by another ending of the name, 255 for nothing."""
    for split, town, stem in (("train", "ulm", "ulm_0"), ("train", "bonn", "bonn_0"), ("val", "ulm", "ulm_1")):
        for top, end in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelTrainIds")):
            (tmp_path / top / split / town).mkdir(parents=True, exist_ok=True)
            mask = np.where(drawn() == 7, 1, 255 if stem == "ulm_0" else 0).astype(np.uint8)
            image = np.stack([mask] * 3, 2) if top == "leftImg8bit" else mask
            Image.fromarray(image).save(tmp_path / top / split / town / f"{stem}_{end}.png")
        Image.fromarray(mask).save(tmp_path / "gtFine" / split / town / f"{stem}_gtFine_color.png")  # of no use
    options = {
        "images": "leftImg8bit/{split}/*/{stem}_leftImg8bit.png",
        "labels": "gtFine/{split}/*/{stem}_gtFine_labelTrainIds.png",
        "classes": ["road", "sidewalk"],
        "ignore": 255,
    }
    source = Masks(source="masks", path=str(tmp_path), test="val", **options)
    train, test = source.read(FORM), source.read_test(FORM)
    assert (len(train), len(test)) == (2, 1)
    assert [label.unique().tolist() for label in train.label] == [[0, 1], [UNKNOWN, 1]]


def test_the_layout_of_voc(tmp_path, capsys):
    """Lists of names, masks in colours of a palette, images of which some have no mask."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets"):
        (tmp_path / name).mkdir()
    for n in range(4):
        Image.fromarray(np.stack([drawn()] * 3, 2)).save(tmp_path / f"JPEGImages/{n}.jpg")
    for n in range(3):
        mask = Image.fromarray(np.where(drawn() == 7, 15, 0).astype(np.uint8))
        mask.putpalette([0, 0, 0] * 15 + [192, 128, 128] + [0, 0, 0] * 240)
        mask.save(tmp_path / f"SegmentationClass/{n}.png")
    (tmp_path / "ImageSets/train.txt").write_text("0\n1\n")
    (tmp_path / "ImageSets/val.txt").write_text("2\n")
    layout = {"images": "JPEGImages/{stem}.jpg", "labels": "SegmentationClass/{stem}.png"}
    by_number = {"classes": [str(k) for k in range(16)]}
    by_colour = {"colours": {"background": [0, 0, 0], "person": [192, 128, 128]}}
    lists = {"train": "ImageSets/train.txt", "test": "ImageSets/val.txt"}
    one = Masks(source="masks", path=str(tmp_path), **layout, **by_number, **lists)
    assert (len(one.read(FORM)), len(one.read_test(FORM))) == (2, 1)
    assert one.read(FORM).label.unique().tolist() == [0, 15]
    assert Masks(source="masks", path=str(tmp_path), **layout, **by_colour, **lists).read(FORM).label.unique().tolist() == [0, 1]
    capsys.readouterr()
    assert len(Masks(source="masks", path=str(tmp_path), **layout, **by_colour).read(FORM)) == 3
    assert "1 of 4 images have no mask and are left out" in capsys.readouterr().out
    (tmp_path / "ImageSets/train.txt").write_text("0\n3\n")
    with pytest.raises(UserError, match=r"'ImageSets/train\.txt' lists '3', of which there is no image with a mask"):
        one.read(FORM)


def test_a_colour_that_is_no_class_is_named(street):
    Image.fromarray(np.full((16, 24, 3), 9, dtype=np.uint8)).save(street / "train/labels/a.png")
    for name in "bc":
        Image.fromarray(np.full((16, 24, 3), 8, dtype=np.uint8)).save(street / f"train/labels/{name}.png")
    source = {"source": "masks", "path": str(street), "colours": {"road": [8, 8, 8]}}
    with pytest.raises(UserError, match=r"train/labels/a\.png has pixels of colour \[9, 9, 9\], which `colours` has not"):
        Masks(**source).read(FORM)
    assert Masks(**source, ignore=[9, 9, 9]).read(FORM).label[0].unique().tolist() == [UNKNOWN]
