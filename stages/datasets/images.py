"""Images: their form, their way from files into tensors and back, and what training does to each of them."""

from typing import Annotated, Literal

import torch
from PIL import Image, ImageOps
from pydantic import Field
from torch import Tensor

from stages.support.sections import Section

Side = Annotated[int, Field(ge=8, multiple_of=4)]


class ImageForm(Section):
    """Every image of a task: `size` is pixels a side or [height, width], multiples of 4; channels are 1 (grey) or 3 (RGB)."""

    size: Side | Annotated[list[Side], Field(min_length=2, max_length=2)]
    channels: Literal[1, 3]

    @property
    def height(self) -> int:
        """In pixels."""
        return self.size if isinstance(self.size, int) else self.size[0]

    @property
    def width(self) -> int:
        """In pixels."""
        return self.size if isinstance(self.size, int) else self.size[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width


class Augment(Section):
    """What training does to each image: zero-pad by `crop` pixels and crop back at a random place, flip left-right at random."""

    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False

    @property
    def changes(self) -> bool:
        """Whether an image differs from epoch to epoch; what the teacher said of the bare one then no longer counts."""
        return self.crop > 0 or self.flip


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 pixels as numbers in [0, 1] of torch's default type."""
    return pixels.to(torch.get_default_dtype()).div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8 pixels, rounded to the nearest."""
    return (images * 255).round().to(torch.uint8)


def to_pixels(image: Image.Image, shape: tuple[int, ...]) -> Tensor:
    """One PIL image -> uint8 of `shape` (C, H, W): grey or RGB, the largest centred part of that shape, resized antialiased."""
    channels, height, width = shape
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(height, width, channels).permute(2, 0, 1)


def augmented(images: Tensor, augment: Augment) -> Tensor:
    """Images (B, C, H, W), each cropped and flipped in its own way. Differentiable. Draws as `Moves` does."""
    return Moves(len(images), augment)(images)


class Moves:
    """One random crop and flip for each of n images: calls with images, then with their label maps, move both alike.

    Draws from torch's default generator on the CPU, so that every device sees the same draws.
    """

    def __init__(self, n: int, augment: Augment):
        self.crop = augment.crop
        self.mirrored = torch.rand(n) < 0.5 if augment.flip else None
        self.corner = torch.randint(2 * augment.crop + 1, (2, n, 1)) if augment.crop else None

    def __call__(self, images: Tensor, fill: int = 0) -> Tensor:
        """Move (B, C, H, W); what comes in from outside of an image is `fill`."""
        n, channels, height, width = images.shape
        device = images.device
        if self.mirrored is not None:
            images = torch.where(self.mirrored.to(device).view(-1, 1, 1, 1), images.flip(3), images)
        if self.corner is not None:
            top, left = self.corner.to(device)
            padded = torch.nn.functional.pad(images, (self.crop,) * 4, value=fill)
            rows = (top + torch.arange(height, device=device)).view(n, 1, height, 1)
            columns = (left + torch.arange(width, device=device)).view(n, 1, 1, width)
            sample = torch.arange(n, device=device).view(n, 1, 1, 1)
            channel = torch.arange(channels, device=device).view(1, -1, 1, 1)
            images = padded[sample, channel, rows, columns]
        return images
