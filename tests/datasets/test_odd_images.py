"""A user's own images: what is clear is converted, what is not is named."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from stages.datasets.examples import Examples
from stages.datasets.images import to_pixels
from stages.datasets.sources import Source
from stages.kinds.classification import splits
from stages.support.errors import UserError
from stages.support.files import listed
from tests.small import form

GREYS = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4  # an image that is no other when it is turned


def through(image, ending, **options):
    """What is read of a file."""
    file = io.BytesIO()
    image.save(file, ending, **options)
    return Image.open(file)


def turned(how):
    exif = Image.Exif()
    exif[0x0112] = how
    return exif


def clear():
    """A square that is half transparent red, half opaque blue."""
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[:, :4], pixels[:, 4:] = (255, 0, 0, 0), (0, 0, 255, 255)
    return Image.fromarray(pixels)


def palette():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 4, 8))
    return image


DEEP = Image.fromarray(GREYS.astype(np.uint16) * 257)
ON_WHITE = torch.tensor([[255, 0], [255, 0], [255, 255]], dtype=torch.uint8).repeat_interleave(4, 1)[:, None].expand(3, 8, 8)


def encoded(ending, image, **options):
    file = io.BytesIO()
    image.save(file, ending, **options)
    return file.getvalue()


def modes(ending, *names, tolerance=0, **options):
    """Files of one format that show GREYS, in several modes."""
    images = {name: DEEP if name == "I;16" else Image.fromarray(GREYS).convert("RGB").convert(name) for name in names}
    suffix = {"JPEG": "jpg"}.get(ending, ending.lower())
    return [
        (f"{name.replace(';', '')}.{suffix}", encoded(ending, image, **options), GREYS, tolerance)
        for name, image in images.items()
    ]


def orientations(ending, tolerance=0):
    """What the eight orientations of EXIF do to the rows and columns of GREYS, by its specification."""
    shown = [
        GREYS,
        GREYS[:, ::-1],
        GREYS[::-1, ::-1],
        GREYS[::-1],
        GREYS.T,
        np.rot90(GREYS, -1),
        GREYS[::-1, ::-1].T,
        np.rot90(GREYS),
    ]
    image = Image.fromarray(GREYS)
    return [
        (f"turned{how}.{ending.lower()}", encoded(ending, image, exif=turned(how)), expected, tolerance)
        for how, expected in enumerate(shown, 1)
    ]


BLACK_AND_WHITE, WHITE = Image.fromarray(GREYS > 100), Image.new("L", (8, 8), "white")
READ = [
    *modes("PNG", "L", "LA", "RGB", "RGBA", "I;16"),
    *modes("TIFF", "L", "RGB", "RGBA", "I;16"),
    *modes("TIFF", "CMYK", tolerance=3),
    *modes("BMP", "L", "RGB", "RGBA"),
    *modes("PPM", "L", "RGB", "I;16"),
    *modes("GIF", "L"),
    *modes("WEBP", "RGB", "RGBA", lossless=True),
    *modes("JPEG", "L", "RGB", "CMYK", tolerance=12, quality=95),
    *modes("AVIF", "RGB", "RGBA", tolerance=12, quality=95),
    *orientations("PNG"),
    *orientations("JPEG", tolerance=12),
    *((f"1.{end.lower()}", encoded(end, BLACK_AND_WHITE), (GREYS > 100) * 255, 0) for end in ("PNG", "TIFF", "BMP", "PPM")),
    ("progressive.jpg", encoded("JPEG", Image.fromarray(GREYS), progressive=True, quality=95), GREYS, 12),
    ("it.jfif", encoded("JPEG", Image.fromarray(GREYS), quality=95), GREYS, 12),
    ("another.JPG", encoded("PNG", Image.fromarray(GREYS)), GREYS, 0),
    ("another.png", encoded("TIFF", Image.fromarray(GREYS)), GREYS, 0),
    ("moves.gif", encoded("GIF", Image.fromarray(GREYS), save_all=True, append_images=[WHITE]), GREYS, 0),
    ("moves.webp", encoded("WEBP", Image.fromarray(GREYS), save_all=True, append_images=[WHITE], lossless=True), GREYS, 0),
    ("pages.tiff", encoded("TIFF", Image.fromarray(GREYS), save_all=True, append_images=[WHITE]), GREYS, 0),
    ("pixel.png", encoded("PNG", Image.new("L", (1, 1), 7)), np.full((8, 8), 7), 0),
    ("line.png", encoded("PNG", Image.new("RGB", (900, 1), (9, 9, 9))), np.full((8, 8), 9), 0),
]


def test_a_folder_of_odd_files_is_read_as_they_show(tmp_path):
    for name, content, _, _ in READ:
        (tmp_path / name).write_bytes(content)
    found = read(tmp_path)
    places = {file.rpartition("/")[2]: place for place, file in enumerate(found.files)}
    assert set(places) == {name for name, *_ in READ}
    for name, _, expected, tolerance in READ:
        pixels = found.input[places[name], 0].numpy().astype(int)
        assert abs(pixels - expected).max() <= tolerance, name


@pytest.mark.parametrize(
    "image",
    [
        through(clear(), "PNG"),
        through(clear(), "WEBP", lossless=True),
        through(palette(), "PNG", transparency=0),
        through(palette(), "GIF", transparency=0),
    ],
)
def test_what_is_transparent_is_on_white(image):
    assert torch.equal(to_pixels(image, (3, 8, 8)), ON_WHITE)


def read(folder, **options):
    source = TypeAdapter(Source).validate_python({"source": "folder", "path": str(folder), **options})
    return source.read(form(1, 8))


def huge():
    """A PNG of 40,000 x 40,000 pixels, as it says."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


NOISE = Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64), dtype=np.uint8))
CUT = [(ending, part) for ending in ("PNG", "JPEG", "TIFF", "WEBP") for part in (0.0, 0.1, 0.9)]
REFUSED = [
    *((f"{part} of a {end}", (file := encoded(end, NOISE))[: int(part * len(file))], "") for end, part in CUT),
    ("lab", encoded("TIFF", Image.new("LAB", (8, 8))), "conversion from LAB"),
    ("bomb", huge(), "decompression bomb"),
    ("text", b"no image", "cannot identify image file"),
    ("page", b"<!doctype html><title>404</title>", "cannot identify image file"),
    ("zeros", bytes(5000), "cannot identify image file"),
    ("floats", encoded("TIFF", Image.fromarray(GREYS.astype(np.float32))), "mode 'F', of which nothing says what is white"),
    ("32 bits", encoded("TIFF", Image.fromarray(GREYS.astype(np.int32))), "mode 'I', of which nothing says what is white"),
]


@pytest.mark.parametrize(("name", "content", "message"), REFUSED, ids=[name for name, *_ in REFUSED])
def test_what_is_not_clear_is_named_and_skipped(tmp_path, capsys, name, content, message):
    Image.fromarray(GREYS).save(tmp_path / "good.png")
    (tmp_path / "odd.tiff").write_bytes(content)
    assert len(read(tmp_path)) == 1
    said = capsys.readouterr().out
    assert "odd.tiff: " in said
    assert message in said


def test_a_file_of_any_name_survives(tmp_path):
    names = [b"caf\xe9.png", b"two\nlines.png", b"plain.png"]
    for name in names:
        Image.fromarray(GREYS).save(os.fsencode(tmp_path) + b"/" + name, "PNG")
    (found := read(tmp_path)).save(tmp_path / "set.safetensors")
    again = Examples.load(tmp_path / "set.safetensors")
    assert again.files == found.files
    assert sorted(os.fsencode(file) for file in again.files) == sorted(os.fsencode(tmp_path) + b"/" + name for name in names)
    again.subset(torch.tensor([0])).having(index=torch.tensor([0])).save(tmp_path / "one.safetensors")


def test_other_files_are_counted_and_links_are_followed_but_in_circles(tmp_path, capsys):
    images, away = tmp_path / "images", tmp_path / "away"
    for folder in (images / "cat", away / "dog"):
        folder.mkdir(parents=True)
        Image.fromarray(GREYS).save(folder / "a.png")
    (images / "dog").symlink_to(away / "dog")
    (images / "again").symlink_to(images)
    (images / "kitty").symlink_to(images / "cat")
    (images / "cat" / "gone.png").symlink_to(away / "gone.png")
    (images / "owl").mkdir()
    (images / ".cache").mkdir()
    for name in ("._a.png", "notes.txt", "more.txt", "README"):
        (images / "cat" / name).write_text("no image")
    found = read(images)
    assert found.classes == ("cat", "dog", "kitty")
    assert len(found) == 3
    said = capsys.readouterr().out
    assert f"{images}: left out what is no image: 4 .txt, 2 ._..., 2 README" in said
    assert f"{images}: 2 folders under '.' hold no image and are no class: again, owl" in said


def test_a_list_of_classes_has_a_name_a_line(tmp_path):
    (tmp_path / "names.txt").write_text("polar bear\n\n  owl \n")
    assert listed(str(tmp_path / "names.txt")) == ["polar bear", "owl"]
    assert listed([str(tmp_path / "names.txt"), "cat"]) == ["polar bear", "owl", "cat"]
    with pytest.raises(UserError, match=r"list of classes none\.txt is missing"):
        listed("none.txt")


def pictures(top, *names):
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GREYS).save(top / name)


def read_folder(path, **keys):
    return TypeAdapter(Source).validate_python({"source": "folder", "path": str(path), **keys})


def test_folders_that_tools_leave_are_no_classes(tmp_path, capsys):
    pictures(tmp_path, "cat/0.png", "dog/0.png", "@eaDir/0.png", "__MACOSX/cat/0.png", ".ipynb_checkpoints/0.png")
    pictures(tmp_path, "cat/.thumbnails/0.png", "dog/@eaDir/0.png/1.png")
    found = read_folder(tmp_path).read(form(1, 8))
    assert found.classes == ("cat", "dog")
    assert len(found) == 2
    said = capsys.readouterr().out
    assert all(f"{name}/" in said for name in ("@eaDir", "__MACOSX", ".ipynb_checkpoints", ".thumbnails"))


def test_a_name_is_the_same_whether_its_accent_is_a_letter_of_its_own(tmp_path):
    """As macOS and others write it."""
    pictures(tmp_path, "e\u0301cole/0.png", "chat/0.png")
    (tmp_path / "names.txt").write_text("\u00e9cole\nchat\n", encoding="utf-8")
    found = read_folder(tmp_path, classes=str(tmp_path / "names.txt")).read(form(1, 8))
    assert found.classes == ("\u00e9cole", "chat")
    assert sorted(found.label.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("0.png", "1.png"), r"0\.png lies in no class's folder; expected PATH/CLASS/image\.png"),
        (("images/train/0.png", "labels/train/0.png"), "has the layout of YOLO, whose labels are boxes"),
    ],
)
def test_a_set_without_folders_of_classes_is_refused_before_it_is_read(tmp_path, names, message):
    pictures(tmp_path, *names)
    with pytest.raises(UserError, match=message):
        read_folder(tmp_path).check_labelled()


def test_parts_of_a_set_are_no_classes(tmp_path):
    pictures(tmp_path, *(f"{part}/{name}/{n}.png" for part in ("train", "val", "test") for name in "ab" for n in range(3)))
    with pytest.raises(UserError, match="its classes are test, train, val, which are parts of a set; say `train: train`"):
        splits.check(read_folder(tmp_path).read(form(1, 8)), "task.t.in_domain")
    assert read_folder(tmp_path, train="train", test="test").read(form(1, 8)).classes == ("a", "b")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_list_of_classes_in_any_unicode_that_says_which(tmp_path, encoding):
    (tmp_path / "names.txt").write_text("stra\u00dfe\nweg\n", encoding=encoding)
    if encoding == "utf-16-le":  # without a mark nothing says so: it is read as UTF-8, or refused
        with pytest.raises(UserError, match=r"names\.txt is not UTF-8"):
            listed(str(tmp_path / "names.txt"))
    else:
        assert listed(str(tmp_path / "names.txt")) == ["stra\u00dfe", "weg"]


def test_images_that_no_part_names_are_counted(tmp_path, capsys):
    pictures(tmp_path, *(f"{part}/{name}/{n}.png" for part in ("train", "val", "test") for name in "ab" for n in range(3)))
    read_folder(tmp_path, train="train", test="test").check_labelled()
    assert "6 images are under none of train, test, and are left out" in capsys.readouterr().out


def test_a_folder_whose_name_is_written_otherwise_is_its_class(tmp_path, capsys):
    pictures(tmp_path, "e\u0301cole/0.png", "chat/0.png")
    assert read_folder(tmp_path).read(form(1, 8)).classes == ("chat", "\u00e9cole")
    assert "are no class" not in capsys.readouterr().out
