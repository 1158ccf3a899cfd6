"""A user's own images: what is clear is converted, what is not is named."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from stages.datasets.images import to_pixels
from stages.datasets.sources import Source
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


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (through(Image.fromarray(GREYS), "PNG"), GREYS),
        (through(DEEP, "PNG"), GREYS),
        (through(DEEP, "TIFF"), GREYS),
        (through(DEEP, "PPM"), GREYS),
        (through(Image.fromarray(GREYS), "PNG", exif=turned(6)), np.rot90(GREYS, -1)),
        (through(Image.fromarray(GREYS), "PNG", exif=turned(2)), GREYS[:, ::-1]),
        (through(DEEP, "PNG", exif=turned(3)), GREYS[::-1, ::-1]),
        (through(Image.fromarray(GREYS > 100), "PNG"), (GREYS > 100) * 255),
    ],
)
def test_grey_pixels_are_what_the_image_shows(image, expected):
    assert to_pixels(image, (1, 8, 8))[0].tolist() == expected.tolist()


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


@pytest.mark.parametrize(
    ("ending", "kind"), [("jpg", "JPEG"), ("jfif", "JPEG"), ("gif", "GIF"), ("avif", "AVIF"), ("JPG", "JPEG")]
)
def test_endings(tmp_path, ending, kind):
    Image.new("RGB", (8, 8), "white").save(tmp_path / f"a.{ending}", kind)
    assert read(tmp_path).input.float().mean() > 250


def read(folder, **options):
    source = TypeAdapter(Source).validate_python({"source": "folder", "path": str(folder), **options})
    return source.read(form(1, 8))


def huge():
    """A PNG of 40,000 x 40,000 pixels, as it says."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (huge(), "decompression bomb"),
        (b"", "cannot identify image file"),
        (
            through(Image.fromarray(GREYS.astype(np.float32)), "TIFF").fp.getvalue(),
            "mode 'F', of which nothing says what is white",
        ),
        (through(Image.fromarray(GREYS.astype(np.int32)), "TIFF").fp.getvalue(), "mode 'I', of which nothing says what is white"),
    ],
)
def test_what_is_not_clear_is_named_and_skipped(tmp_path, capsys, content, message):
    Image.fromarray(GREYS).save(tmp_path / "good.png")
    (tmp_path / "odd.tiff").write_bytes(content)
    assert len(read(tmp_path)) == 1
    said = capsys.readouterr().out
    assert "odd.tiff: " in said
    assert message in said


def test_other_files_are_counted_and_links_are_followed_but_in_circles(tmp_path, capsys):
    images, away = tmp_path / "images", tmp_path / "away"
    for folder in (images / "cat", away / "dog"):
        folder.mkdir(parents=True)
        Image.fromarray(GREYS).save(folder / "a.png")
    (images / "dog").symlink_to(away / "dog")
    (images / "again").symlink_to(images)
    (images / "kitty").symlink_to(images / "cat")
    (images / "cat" / "gone.png").symlink_to(away / "gone.png")
    for name in ("._a.png", "notes.txt", "more.txt", "README"):
        (images / "cat" / name).write_text("no image")
    found = read(images)
    assert found.classes == ("cat", "dog", "kitty")
    assert len(found) == 3
    assert f"{images}: left out what is no image: 4 .txt, 2 ._..., 2 README" in capsys.readouterr().out


def test_a_list_of_classes_has_a_name_a_line(tmp_path):
    (tmp_path / "names.txt").write_text("polar bear\n\n  owl \n")
    assert listed(str(tmp_path / "names.txt")) == ["polar bear", "owl"]
    assert listed([str(tmp_path / "names.txt"), "cat"]) == ["polar bear", "owl", "cat"]
    with pytest.raises(UserError, match=r"list of classes none\.txt is missing"):
        listed("none.txt")
