"""Scenes of handwritten digits, every pixel labelled."""

from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from pydantic import Field
from torch import Tensor

from stages.datasets.examples import Examples, pack
from stages.datasets.images import ImageForm, to_pixels
from stages.support.sections import Section

GROUND = 0  # the class of what is no digit's ink
PARTS = {"train": (0.0, 0.6), "val": (0.6, 0.7), "test": (0.7, 1.0)}  # of the digits, which no two splits share
HELD = 0.1  # of the scenes that are read for training: those that prepare takes for validation
SIZES = (0.7, 0.95)  # of digits, of the image's shorter side
GREYS = (10, 150)  # of the ground, of 255
COVER, VISIBLE = 0.5, 40  # of ink, from which a pixel is of its digit; how much brighter than the ground it is at least
EDGE = 3  # how much sharper the enlarged ink's edges are made


class Source(Section):
    """`count` scenes for training and `test` for testing: one of scikit-learn's digits on cluttered grey ground.

    Digits have random places, sizes and contrasts, and are brighter than what is behind them. The last tenth of the scenes for
    training, which prepare takes for validation, has digits of its own, and so have those for testing.
    """

    source: Literal["digit_scenes"]
    count: Annotated[int, Field(ge=30)]
    test: Annotated[int, Field(gt=0)]

    def read(self, form: ImageForm) -> Examples:
        """Always the same scenes."""
        held = round(HELD * self.count)
        parts = [_scenes("train", self.count - held, form), _scenes("val", held, form)]
        return _packed([scene for part in parts for scene in part])

    def read_test(self, form: ImageForm) -> Examples:
        """Always the same scenes."""
        return _packed(_scenes("test", self.test, form))


def _packed(scenes: list[tuple[Tensor, Tensor]]) -> Examples:
    inputs, labels = (torch.stack(column) for column in zip(*scenes, strict=True))
    return pack(inputs, labels, ("ground", *"0123456789"))


def _scenes(part: str, count: int, form: ImageForm) -> list[tuple[Tensor, Tensor]]:
    from sklearn.datasets import load_digits

    digits, targets = load_digits(return_X_y=True)
    begin, end = (round(share * len(digits)) for share in PARTS[part])
    mine = np.random.default_rng(0).permutation(len(digits))[begin:end]
    rng = np.random.default_rng([1, begin])
    rows = (mine[rng.integers(len(mine))] for _ in range(count))
    return [_scene(rng, digits[row].reshape(8, 8) / 16, int(targets[row]), form) for row in rows]


def _scene(rng: np.random.Generator, ink: np.ndarray, digit: int, form: ImageForm) -> tuple[Tensor, Tensor]:
    """Pixels (C, H, W) and labels (H, W)."""
    canvas = _ground(rng, form.height, form.width)
    label = np.full(canvas.shape, GROUND)
    side = min(canvas.shape)
    size = int(rng.integers(round(SIZES[0] * side), round(SIZES[1] * side) + 1))
    top, left = (rng.integers(room - size + 1) for room in canvas.shape)
    place = (slice(top, top + size), slice(left, left + size))
    shape = Image.fromarray((255 * ink).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    cover = (EDGE * (np.asarray(shape, dtype=float) / 255 - COVER) + COVER).clip(0, 1)
    level = rng.uniform(canvas[place].max() + VISIBLE, 255)
    canvas[place] = (1 - cover) * canvas[place] + cover * level
    label[place][cover > COVER] = 1 + digit
    noisy = canvas + rng.normal(0, 4, canvas.shape)
    picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    return to_pixels(picture, form.shape), torch.from_numpy(label)


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Grey (H, W): a few blurred shapes and some strokes, darker than ink."""
    image = Image.new("L", (width, height), int(rng.integers(*GREYS)))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 6)):
        x, y = np.sort(rng.integers(-4, width + 4, 2)), np.sort(rng.integers(-4, height + 4, 2))
        shape = draw.rectangle if rng.random() < 0.5 else draw.ellipse
        shape([int(x[0]), int(y[0]), int(x[1]), int(y[1])], fill=int(rng.integers(*GREYS)))
    for _ in range(rng.integers(0, 4)):
        ends = [int(value) for value in rng.integers(0, [width, height, width, height])]
        draw.line(ends, fill=int(rng.integers(*GREYS)), width=int(rng.integers(1, 3)))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 1.2)))), dtype=float)
