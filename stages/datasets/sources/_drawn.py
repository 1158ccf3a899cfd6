"""What sources share that come with installed packages, so that a task needs no download. All draws are seeded."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stages.datasets.examples import Examples, pack
from stages.datasets.images import ImageForm, to_pixels
from stages.support.sections import Section, Seed


class Drawn(Section):
    """A source without a test part of its own."""

    def read_test(self, form: ImageForm) -> None:
        """There is no separate test part: prepare splits one off."""


class Seeded(Drawn):
    """... whose images are drawn anew by another `seed`."""

    seed: Seed = 0


@functools.cache
def _fonts() -> list[str]:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [str(path) for path in sorted(folder.glob("DejaVu*.ttf")) if "Display" not in path.name]


def glyph(rng: np.random.Generator, heights: tuple[int, int], character: Callable[[], str], form: ImageForm) -> Tensor:
    """One white character on black, turned by up to 20 degrees, shrunk from 64 pixels to 8 and back.

    In a DejaVu font that matplotlib ships, `heights` pixels high, the end left out.
    """
    fonts = _fonts()
    font = ImageFont.truetype(fonts[rng.integers(len(fonts))], int(rng.integers(*heights)))
    canvas = Image.new("L", (64, 64))
    ImageDraw.Draw(canvas).text((32, 32), character(), 255, font, anchor="mm")
    turned = canvas.rotate(float(rng.uniform(-20, 20)), Image.Resampling.BILINEAR)
    return to_pixels(turned.resize((8, 8), Image.Resampling.BOX), form.shape)


def drawn(draw: Callable[[np.random.Generator], Tensor], count: int, seed: int) -> Examples:
    """`count` images of one generator, one after another."""
    rng = np.random.default_rng(seed)
    return pack(torch.stack([draw(rng) for _ in range(count)]))
