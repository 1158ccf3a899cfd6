"""Data sets that come with installed packages, so that the default task needs no download. All draws are seeded."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field
from torch import Tensor

from stages.datasets.images import UNKNOWN, ImageSet, to_pixels
from stages.sections import Section

LETTERS = "ACDEFGHJKLMNPQRTUVWXYacdefhijkmnprtuvwxy"  # without O o l I S s Z z B g q b, which look like digits
FLAT = 16  # standard deviation, of 255 grey levels, below which a patch of a photograph shows nothing


class _Builtin(Section):
    def read_test(self, channels: int, size: int) -> None:
        """There is no separate test part: prepare splits one off."""


class Digits(_Builtin):
    """Scikit-learn's 1,797 handwritten digits, 8x8 grey, enlarged to the task's size."""

    source: Literal["digits"]

    def read(self, channels: int, size: int) -> ImageSet:
        """All digits."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        grey = (bunch.images * (255 / 16)).round().astype(np.uint8)
        pixels = torch.stack([to_pixels(Image.fromarray(digit), channels, size) for digit in grey])
        return _packed(pixels, channels, size, torch.from_numpy(bunch.target).long(), tuple("0123456789"))


class Photographs(_Builtin):
    """Square patches of the two photographs that scikit-learn ships (china.jpg, flower.jpg), cut at six scales."""

    source: Literal["photographs"]
    count: int = Field(gt=0)

    def read(self, channels: int, size: int) -> ImageSet:
        """`count` patches of 1 to 6 times the task's size at random places, resized; flat ones (sky, shadow) are passed over."""
        from sklearn.datasets import load_sample_images

        photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]

        def cut(rng: np.random.Generator) -> Tensor:
            photograph = photographs[rng.integers(len(photographs))]
            side = min(int(size * rng.choice([1, 1.5, 2, 3, 4, 6])), *photograph.size)
            x, y = (int(rng.integers(length - side + 1)) for length in photograph.size)
            patch = to_pixels(photograph.crop((x, y, x + side, y + side)), channels, size)
            return patch if patch.float().std() > FLAT else cut(rng)

        return _drawn(cut, self.count, channels, size)


class Letters(_Builtin):
    """Letters that look like no digit, in the DejaVu fonts that matplotlib ships, at the resolution of the digits."""

    source: Literal["letters"]
    count: int = Field(gt=0)

    def read(self, channels: int, size: int) -> ImageSet:
        """`count` letters of several heights."""

        def draw(rng: np.random.Generator) -> Tensor:
            return _glyph(rng, (40, 65), lambda: LETTERS[rng.integers(len(LETTERS))], channels, size)

        return _drawn(draw, self.count, channels, size)


class FontDigits(_Builtin):
    """Digits in the DejaVu fonts that matplotlib ships, at the resolution of the handwritten ones: another domain for them."""

    source: Literal["font_digits"]
    count: int = Field(gt=0)

    def read(self, channels: int, size: int) -> ImageSet:
        """`count` digits that nearly fill the image, every class equally often."""
        labels = torch.arange(self.count) % 10
        digits = iter(labels.tolist())

        def draw(rng: np.random.Generator) -> Tensor:
            return _glyph(rng, (60, 75), lambda: str(next(digits)), channels, size)

        images = _drawn(draw, self.count, channels, size)
        return replace(images, labels=labels, classes=tuple("0123456789"))


@functools.cache
def _fonts() -> list[str]:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [str(path) for path in sorted(folder.glob("DejaVu*.ttf")) if "Display" not in path.name]


def _glyph(rng: np.random.Generator, heights: tuple[int, int], character: Callable[[], str], channels: int, size: int) -> Tensor:
    """One white character on black, turned by up to 20 degrees, shrunk from 64 pixels to 8 and back.

    In a DejaVu font that matplotlib ships, `heights` pixels high, the end left out.
    """
    fonts = _fonts()
    font = ImageFont.truetype(fonts[rng.integers(len(fonts))], int(rng.integers(*heights)))
    canvas = Image.new("L", (64, 64))
    ImageDraw.Draw(canvas).text((32, 32), character(), 255, font, anchor="mm")
    turned = canvas.rotate(float(rng.uniform(-20, 20)), Image.Resampling.BILINEAR)
    return to_pixels(turned.resize((8, 8), Image.Resampling.BOX), channels, size)


def _drawn(draw: Callable[[np.random.Generator], Tensor], count: int, channels: int, size: int) -> ImageSet:
    rng = np.random.default_rng(0)
    return _packed(torch.stack([draw(rng) for _ in range(count)]), channels, size)


def _packed(pixels: Tensor, channels: int, size: int, labels: Tensor | None = None, classes: tuple[str, ...] = ()) -> ImageSet:
    labels = torch.full((len(pixels),), UNKNOWN) if labels is None else labels
    return ImageSet(pixels, labels, torch.arange(len(pixels)), classes, channels, size)
