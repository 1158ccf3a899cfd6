import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from stages.datasets import examples
from stages.datasets.examples import UNKNOWN, Examples, channel_statistics
from stages.datasets.sources import Source, _files
from stages.datasets.sources.letters import LETTERS
from stages.datasets.stamps import changed, stamps
from stages.kinds.classification import splits
from stages.kinds.classification.splits import held_out
from stages.prepare import split
from stages.support.errors import UserError
from tests.small import form, images, stream


def source(**options):
    return TypeAdapter(Source).validate_python(options)


def write(path, seed, size=(20, 14)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    for i in range(12):
        write(root / "train" / ("cat", "dog", "owl")[i % 3] / f"{i:02}.png", i)
    write(root / "test" / "cat" / "00.png", 100)
    (root / "train" / "notes.txt").write_text("not an image")
    return root


def test_digits_are_all_of_scikit_learns_at_16_pixels():
    digits = source(source="digits").read(form(1, 16))
    assert digits.input.shape == (1797, 1, 16, 16)
    assert digits.input.max() == 255
    assert digits.classes == tuple("0123456789")
    assert torch.bincount(digits.label).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("name", ["photographs", "letters"])
@pytest.mark.parametrize("channels", [1, 3])
def test_drawn_sets_are_the_same_every_time(name, channels):
    one, two = (source(source=name, count=40).read(form(channels, 16)) for _ in range(2))
    assert one.input.shape == (40, channels, 16, 16)
    assert torch.equal(one.input, two.input)
    assert len(torch.unique(one.input.flatten(1), dim=0)) == 40
    assert "label" not in one.columns
    other = source(source=name, count=40, seed=1).read(form(channels, 16))
    assert not torch.equal(one.input, other.input)


def test_letters_have_no_look_alikes_of_digits():
    assert not set("OolISsZzBgqb") & set(LETTERS)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_is_read_in_image_folder_layout(folder, channels):
    read = source(source="folder", path=str(folder), train="train", test="test")
    train, test = read.read(form(channels, 8)), read.read_test(form(channels, 8))
    assert train.classes == ("cat", "dog", "owl")
    assert train.label.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert train.input.shape == (12, channels, 8, 8)
    assert len(test) == 1


def test_images_of_the_right_size_are_not_touched(tmp_path):
    pixels = write(tmp_path / "a.png", 0, size=(8, 8))
    read = source(source="folder", path=str(tmp_path)).read(form(3, 8))
    assert torch.equal(read.input[0], torch.from_numpy(pixels).permute(2, 0, 1))
    assert read.label.tolist() == [UNKNOWN]


def test_a_tar_gives_what_its_folder_gives(folder, tmp_path):
    archive = tmp_path / "pictures.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(folder, ".")
    options = {"train": "train", "classes": ["dog", "owl"]}
    one = source(source="folder", path=str(folder), **options).read(form(3, 8))
    two = source(source="tar", path=str(archive), **options).read(form(3, 8))
    assert torch.equal(one.input, two.input)
    assert torch.equal(one.label, two.label)
    assert one.classes == two.classes == ("dog", "owl")


def test_links_in_an_archive_are_files_and_what_is_larger_than_an_image_is_left_out(folder, tmp_path, monkeypatch, capsys):
    (folder / "train" / "dog" / "big.png").write_bytes(b"\0" * 5000)
    (folder / "train" / "dog" / "hard.png").hardlink_to(folder / "train" / "cat" / "00.png")
    (folder / "train" / "owl" / "soft.png").symlink_to("../cat/00.png")
    (folder / "train" / "owl" / "nowhere.png").symlink_to("../cat/none.png")
    archive = tmp_path / "pictures.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, ".")
    monkeypatch.setattr(_files, "LARGEST", 4000)
    read = source(source="tar", path=str(archive), train="train").read(form(3, 8))
    assert torch.bincount(read.label).tolist() == [4, 5, 5]
    same = (read.input == read.input[0]).flatten(1).all(1)
    assert read.label[same].tolist() == [0, 1, 2]
    said = capsys.readouterr().out
    assert all(f"skipped {archive}/train/{name}" in said for name in ("dog/big.png", "owl/nowhere.png"))


def test_classes_are_in_the_order_of_their_numbers_or_as_they_are_listed(tmp_path):
    for name in ("0", "2", "10", "b3", "b12"):
        write(tmp_path / name / "a.png", 0)
    assert source(source="folder", path=str(tmp_path)).read(form()).classes == ("0", "2", "10", "b3", "b12")
    read = source(source="folder", path=str(tmp_path), classes=["b12", "2", "0"]).read(form())
    assert read.classes == ("b12", "2", "0")
    assert read.label.tolist() == [2, 1, 0]  # the images are in the order of their names


def test_what_changes_after_it_was_read_is_noticed(folder, tmp_path):
    archive = tmp_path / "one.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, ".")
    section = {"ood": {"source": "mixture", "parts": [{"source": "folder", "path": str(folder)}, {"source": "noise"}]}}
    read = stamps([section, {"source": "some", "images": {"source": "tar", "path": str(archive)}}])
    assert {path: stamp["files"] for path, stamp in read.items()} == {str(folder): 14, str(archive): 1}
    assert changed(read) == []
    write(folder / "train" / "cat" / "new.png", 1)
    assert changed(read) == [str(folder)]
    os.utime(archive, (0, 0))
    assert changed(read) == [str(folder), str(archive)]
    archive.unlink()
    assert changed(read) == [str(folder)]


def test_some_images_are_drawn_once_for_all_in_their_order():
    options = {"source": "some", "images": {"source": "digits"}, "count": 50}
    every = source(source="digits").read(form())
    some, again = (source(**options).read(form()) for _ in range(2))
    assert torch.equal(some.index, again.index)
    assert len(some) == 50
    assert torch.equal(some.index, some.index.sort().values)
    assert torch.equal(some.input, every.input[some.index])
    assert some.index[-1] > 500
    with pytest.raises(UserError, match="`count` is 5,000, but there are 1,797 images"):
        source(**{**options, "count": 5000}).read(form())


def test_noise_is_uniform_and_always_the_same():
    one, other = (source(source="noise", count=40).read(form(3, 16)) for _ in range(2))
    assert torch.equal(one.input, other.input)
    assert one.input.float().mean().item() == pytest.approx(127.5, abs=2)
    assert one.input.float().std().item() == pytest.approx(256 / 12**0.5, abs=2)


def test_patches_are_cut_and_shrunk_and_never_enlarged(folder):
    """Of images of one colour each, every patch has the colour of an image; whole, a fine grating stays as sharp as it is."""
    colours = np.random.default_rng(0).integers(256, size=(6, 3), dtype=np.uint8)
    for i, colour in enumerate(colours):
        Image.fromarray(np.tile(colour, (40, 40, 1))).save(folder / f"{i}.png")
    options = {"source": "patches", "images": {"source": "folder", "path": str(folder)}, "size": 40, "smallest": 16}
    for path in (folder / "train", folder / "test"):
        shutil.rmtree(path)
    patches = source(**options, count=50).read(form(3, 16))
    assert patches.input.shape == (50, 3, 16, 16)
    assert patches.input.flatten(2).float().std(2).max() == 0
    assert {tuple(c) for c in patches.input[:, :, 0, 0].tolist()} == {tuple(c) for c in colours.tolist()}
    assert torch.equal(patches.input, source(**options, count=50).read(form(3, 16)).input)
    assert "label" not in patches.columns
    for change in ({"smallest": 12}, {"smallest": 44}):
        with pytest.raises(UserError, match=r"`smallest` is .*; it must lie between the task's size, 16, and `size`, 40"):
            source(**options | change, count=5).read(form(3, 16))
    one = np.zeros((40, 40, 3), dtype=np.uint8)
    one[::2] = 255
    for i in range(6):
        Image.fromarray(one).save(folder / f"{i}.png")
    sharp = source(**options | {"smallest": 40}, count=3).read(form(3, 40))
    assert sorted(sharp.input.unique().tolist()) == [0, 255]


def test_a_set_too_large_to_pack_is_read_from_its_folder(folder):
    options = {"source": "folder", "path": str(folder), "train": "train"}
    packed, lazy = source(**options).read(form(3, 8)), source(**options, pack_gb=1e-6).read(form(3, 8))
    assert not lazy.packed
    rows = [torch.tensor([3, 1]), torch.tensor([11, 0, 5])]
    for one, two in zip(packed.inputs(rows), lazy.inputs(rows, workers=1), strict=True):
        assert torch.equal(one, two)


def test_an_archive_too_large_to_pack_is_to_be_unpacked(folder, tmp_path):
    with tarfile.open(tmp_path / "it.tar", "w") as archive:
        archive.add(folder, ".")
    with pytest.raises(
        UserError, match="12 images are more than 1e-06 GB once decoded; unpack the archive and take `source: folder`"
    ):
        source(source="tar", path=str(tmp_path / "it.tar"), train="train", pack_gb=1e-6).read(form(3, 8))


def test_a_stream_from_a_folder_equals_one_from_memory(folder):
    """Worker processes read ahead, and the labels and rows must still belong to the images; also after going back."""
    options = {"source": "folder", "path": str(folder), "train": "train"}
    one, two = (stream("s", source(**options, **more).read(form(3, 8)), 4) for more in ({}, {"pack_gb": 1e-6}))
    for _ in range(2):
        for _ in range(5):
            packed, lazy = one.next(), two.next()
            assert torch.equal(packed["input"], lazy["input"])
            assert torch.equal(packed["label"], lazy["label"])
            assert torch.equal(packed["rows"], lazy["rows"])
        one.seek(1)
        two.seek(1)


def test_broken_images_are_named_and_skipped_up_to_a_limit(folder, capsys):
    (folder / "train/cat/00.png").write_bytes(b"")
    (folder / "train/dog/01.png").write_bytes((folder / "train/dog/01.png").read_bytes()[:200])
    read = source(source="folder", path=str(folder), train="train")
    kept = read.read(form(3, 8))
    assert len(kept) == 10
    assert kept.index.tolist() == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    said = capsys.readouterr().out
    assert "cat/00.png" in said
    assert "skipped 2 broken images of 12" in said
    for name in ("cat/03.png", "owl/02.png"):
        (folder / "train" / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"more than 3 broken images, .*cat/00.png"):
        read.read(form(3, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "folder", "path": "nowhere"}, "nowhere is missing.*sub-folder a class"),
        ({"source": "tar", "path": "nowhere.tar"}, r"nowhere\.tar is missing"),
        ({"source": "torchvision", "name": "CIFAR11"}, "no labelled train/test set 'CIFAR11'"),
        ({"source": "folder", "path": ".", "classes": "nowhere.txt"}, r"list of classes nowhere\.txt is missing"),
    ],
)
def test_a_missing_source_is_named(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        source(**options).read(form(3, 8))


def test_empty_folders_cut_archives_and_absent_classes_are_named(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        source(source="folder", path=str(tmp_path / "empty")).read(form(3, 8))
    with pytest.raises(UserError, match="no image of emu"):
        source(source="folder", path=str(folder), train="train", classes=["cat", "emu"]).read(form(3, 8))
    archive = tmp_path / "cut.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(folder, ".")
    archive.write_bytes(archive.read_bytes()[:-400])
    with pytest.raises(UserError, match="is it complete"):
        source(source="tar", path=str(archive)).read(form(3, 8))


def test_a_set_survives_its_file(tmp_path):
    for whole in (images(5, channels=3), source_of_files()):
        whole.save(tmp_path / "set.safetensors")
        read = Examples.load(tmp_path / "set.safetensors")
        assert read.columns.keys() == whole.columns.keys()
        assert all(torch.equal(read.columns[name], column) for name, column in whole.columns.items())
        assert (read.classes, read.files, read.shape) == (whole.classes, whole.files, whole.shape)


def test_the_same_set_gives_the_same_bytes_in_every_process(tmp_path):
    """DVC and checkpoints go by hashes of files."""
    code = "import sys; from pathlib import Path; from tests.small import images; images(5, channels=3).save(Path(sys.argv[1]))"
    for name in "ab":
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def source_of_files():
    return Examples({"label": torch.tensor([0, 1]), "index": torch.arange(2)}, ("a", "ö"), (3, 8, 8), ("x/1.png", "x/ü.png"))


def test_splits_are_stratified_disjoint_and_the_same_every_time():
    digits = source(source="digits").read(form(1, 8))
    (rest, part), again = held_out(digits, 0.3), held_out(digits, 0.3)[1]
    assert torch.equal(part.index, again.index)
    assert torch.equal(torch.cat([rest.index, part.index]).sort().values, torch.arange(1797))
    shares = torch.bincount(part.label) / torch.bincount(digits.label)
    assert ((shares - 0.3).abs() < 0.005).all()


def test_channel_statistics_are_those_of_all_pixels():
    some = images(30, channels=3)
    values = some.input.double() / 255
    mean, std = channel_statistics(some)
    torch.testing.assert_close(mean.double(), values.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(std.double(), values.std((0, 2, 3), correction=0), rtol=1e-5, atol=1e-6)


def test_printed_digits_have_every_class_equally_often():
    digits = source(source="font_digits", count=60).read(form(1, 16))
    assert torch.bincount(digits.label).tolist() == [6] * 10
    assert digits.classes == tuple("0123456789")
    assert len(torch.unique(digits.input.flatten(1), dim=0)) == 60


def test_a_mixture_joins_its_parts_and_keeps_labels_of_equal_classes():
    one, two = source(source="photographs", count=20), source(source="letters", count=30)
    both = source(source="mixture", parts=[one.model_dump(), two.model_dump()]).read(form(1, 16))
    assert torch.equal(both.input, torch.cat([part.read(form(1, 16)).input for part in (one, two)]))
    assert both.index.tolist() == list(range(50))
    labelled = source(source="mixture", parts=[{"source": "digits"}, {"source": "font_digits", "count": 20}])
    mixed = labelled.read(form(1, 16))
    assert mixed.classes == tuple("0123456789")
    assert mixed.label[-20:].tolist() == [*range(10), *range(10)]
    other = source(source="mixture", parts=[{"source": "digits"}, {"source": "letters", "count": 20}]).read(form(1, 16))
    assert other.classes == ()
    assert "label" not in other.columns


def test_images_that_are_files_have_their_names_in_a_mixture_too(folder):
    parts = [{"source": "letters", "count": 2}, {"source": "folder", "path": str(folder), "train": "train"}]
    mixed = source(source="mixture", parts=parts).read(form(1, 16))
    named = [f"{folder}/train/{name}/{i:02}.png" for k, name in enumerate(("cat", "dog", "owl")) for i in range(k, 12, 3)]
    assert mixed.files == ("", "", *named)
    assert mixed.subset(torch.tensor([2, 0])).files == (f"{folder}/train/cat/00.png", "")


def test_a_mixture_of_packed_and_lazy_parts_is_refused(folder):
    parts = [{"source": "folder", "path": str(folder), "pack_gb": gb} for gb in (8.0, 1e-9)]
    with pytest.raises(UserError, match="packed as a whole or not at all"):
        source(source="mixture", parts=parts).read(form(1, 16))


@pytest.mark.parametrize(
    ("train", "val", "sizes"), [(None, 0.1, (380, 40, 180)), (100, 50, (100, 50, 450)), (0.8, 0.1, (480, 60, 60))]
)
def test_splits_are_disjoint_and_of_the_size_that_was_asked_for(train, val, sizes):
    parts = split(splits, images(600), None, "task.x", val, 0.3, train)
    assert tuple(len(part) for part in parts.values()) == sizes
    rows = torch.cat([part.index for part in parts.values()])
    assert sorted(rows.tolist()) == list(range(600))
    assert all(torch.bincount(part.label).min() * 10 == len(part) for part in parts.values())


def test_a_split_that_leaves_nothing_for_test_is_refused():
    with pytest.raises(UserError, match=r"task\.x: 64 examples do not make 50 for train, 10 for val and some for test"):
        split(splits, images(64), None, "task.x", 10, 0.3, 50)


def test_workers_are_as_many_as_shared_memory_has_room_for(monkeypatch, capsys):
    """A container's default of 64 MB: fewer processes read ahead, or none, and the images are the same."""
    room = shutil.disk_usage(examples.SHARED)._replace(free=64 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    assert examples._fitting(4, 1000) == 4
    assert examples._fitting(4, 8 * 2**20) == 2
    assert examples._fitting(4, 128 * 3 * 224 * 224 * 4) == 0
    assert "has room for the batches of 2 of 4 processes" in capsys.readouterr().out
