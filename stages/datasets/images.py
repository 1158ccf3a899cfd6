"""Images: their form, their way from files into tensors and back, and what training does to each of them."""

import math
from typing import Annotated, Literal, Self

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.ExifTags import Base
from pydantic import Field, model_validator
from torch import Tensor

from stages.losses.precision import exact
from stages.support.sections import Section

IMAGES = "images"  # what a source gives that reads them, and what a kind of task has that is of them
Side = Annotated[int, Field(ge=8, multiple_of=4)]


class ImageForm(Section):
    """Every image of a task: `size` is pixels a side or [height, width], multiples of 4; channels are 1 (grey) or 3 (RGB).

    With `crop`, networks are trained on squares of that many pixels a side, generators and the pool's images are of that size
    (a student domain's are whole), and whole images are for testing alone.
    """

    size: Side | Annotated[list[Side], Field(min_length=2, max_length=2)]
    channels: Literal[1, 3]
    crop: Side | None = None

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.crop and self.crop > min(self.height, self.width):
            raise ValueError(f"`crop` is {self.crop} pixels a side, more than images of {self.height} x {self.width} have")
        return self

    @property
    def height(self) -> int:
        """The height of an image in pixels."""
        return self.size if isinstance(self.size, int) else self.size[0]

    @property
    def width(self) -> int:
        """The width of an image in pixels."""
        return self.size if isinstance(self.size, int) else self.size[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image: (channels, height, width)."""
        return self.channels, self.height, self.width

    @property
    def trained(self) -> "ImageForm":
        """The form of what networks are trained on: a crop, or the image."""
        return ImageForm(size=self.crop, channels=self.channels) if self.crop else self


class Augment(Section):
    """What training does to each image: zero-pad by `crop` pixels and crop back at a random place, flip left-right at random.

    `scale` is how far it is enlarged or shrunk at most, about a random place: 1.5 for 2/3 to 3/2 of its size.
    """

    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    scale: Annotated[float, Field(ge=1, le=4)] = 1.0

    @property
    def changes(self) -> bool:
        """Whether an image differs from epoch to epoch; what the teacher said of the bare one then no longer counts."""
        return self.crop > 0 or self.flip or self.scale > 1


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 pixels as numbers in [0, 1] of torch's default type."""
    return pixels.to(torch.get_default_dtype()).div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8 pixels, rounded to the nearest."""
    return (images * 255).round().to(torch.uint8)


def to_pixels(image: Image.Image, shape: tuple[int, ...]) -> Tensor:
    """One PIL image -> uint8 of `shape` (C, H, W): grey or RGB, the largest centred part of that shape, resized antialiased.

    Turned as its EXIF data says, 16 bits scaled to 8, what is transparent on white. Raises ValueError for pixels of 32 bits or
    floating point: nothing says what is white.
    """
    channels, height, width = shape
    if image.getexif().get(Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):  # which Pillow scales to 16 bits
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of mode '{image.mode}', of which nothing says what is white; save it with 8 or 16 bits")
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(height, width, channels).permute(2, 0, 1)


def augmented(images: Tensor, augment: Augment) -> Tensor:
    """Images (B, C, H, W), each cropped and flipped in its own way. Differentiable. Draws as `Moves` does."""
    return Moves(len(images), augment)(images)


class Moves:
    """One random flip, crop and scale for each of n images: calls with images, then with their label maps, move both alike.

    `spare` is how many rows and columns of an image are left out: a window is cut at a random place. Draws from torch's default
    generator on the CPU, so that every device sees the same draws.
    """

    def __init__(self, n: int, augment: Augment, spare: tuple[int, int] = (0, 0)):
        self.pad, self.spare = augment.crop, spare
        self.mirrored = torch.rand(n) < 0.5 if augment.flip else None
        self.corner = self.scale = None
        if augment.scale > 1:
            self.scale = torch.empty(n, 1).uniform_(-1, 1).mul(math.log(augment.scale)).exp()
            self.place = torch.rand(2, n, 1)
        elif self.pad or any(spare):
            self.corner = torch.stack([torch.randint(2 * self.pad + extra + 1, (n, 1)) for extra in spare])

    def __call__(self, images: Tensor, fill: int | None = None) -> Tensor:
        """Move (B, C, H, W); what comes in from outside is 0, or `fill` of label maps, which are never interpolated."""
        n, channels, height, width = images.shape
        device = images.device
        if self.mirrored is not None:
            images = torch.where(self.mirrored.to(device).view(-1, 1, 1, 1), images.flip(3), images)
        if self.scale is not None:
            return self._scaled(images, fill)
        if self.corner is not None:
            top, left = self.corner.to(device)
            padded = torch.nn.functional.pad(images, (self.pad,) * 4, value=fill or 0)
            rows = (top + torch.arange(height - self.spare[0], device=device)).view(n, 1, -1, 1)
            columns = (left + torch.arange(width - self.spare[1], device=device)).view(n, 1, 1, -1)
            sample = torch.arange(n, device=device).view(n, 1, 1, 1)
            channel = torch.arange(channels, device=device).view(1, -1, 1, 1)
            images = padded[sample, channel, rows, columns]
        return images

    @exact
    def _scaled(self, images: Tensor, fill: int | None) -> Tensor:
        """A part of each image, at a random place in it (or with all of it inside, where the part is larger), resized."""
        assert self.scale is not None
        device, sides = images.device, images.shape[2:]
        scale = self.scale.to(device)
        axes = []
        for side, extra, place in zip(sides, self.spare, self.place.to(device), strict=True):
            shown = side - extra
            first = (side + 2 * self.pad - shown / scale) * place - self.pad
            axes.append(first + (torch.arange(shown, device=device) + 0.5) / scale - 0.5)
        if fill is None:  # bilinear: the weights of an image's rows and columns in those that are shown
            down, across = (
                (1 - (at[:, :, None] - torch.arange(side, device=device)).abs()).clamp(min=0)
                for at, side in zip(axes, sides, strict=True)
            )
            given = images if images.is_floating_point() else images.to(down.dtype)
            moved = torch.einsum("nih,nchw,njw->ncij", down.to(given.dtype), given, across.to(given.dtype))
            return moved if images.is_floating_point() else moved.round().to(images.dtype)
        (down, rows_in), (across, columns_in) = (_nearest(at, side) for at, side in zip(axes, sides, strict=True))
        sample = torch.arange(len(images), device=device).view(-1, 1, 1)
        found = images.movedim(1, -1)[sample, down[:, :, None], across[:, None]].movedim(-1, 1)
        inside = (rows_in[:, :, None] & columns_in[:, None])[:, None]
        return torch.where(inside, found, torch.full_like(found, fill))


def _nearest(at: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The nearest places of 0 to `side` - 1, and whether there is one."""
    places = at.round().long()
    return places.clamp(0, side - 1), (places >= 0) & (places < side)
