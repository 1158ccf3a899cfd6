"""Generators: noise (B, latent) -> images (B, channels, height, width) in [0, 1]."""

import itertools

from torch import Tensor, nn


def _upsample(width_in: int, width_out: int, bias: bool) -> list[nn.Module]:
    return [
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(width_in, width_out, 3, 1, 1, bias=bias),
        nn.BatchNorm2d(width_out),
        nn.LeakyReLU(0.2, inplace=True),
    ]


class Generator(nn.Module):
    """Shallow generator for images of `shape` (C, H, W) whose sides are multiples of 4; three widths from first to last layer.

    `standardised` ends in tanh and batch normalisation without parameters instead of a sigmoid: then every channel has mean 0
    and variance 1 over the batch. At 32 px RGB, widths (256, 128, 64), latent 100 it is MosaicKD's (2,026,051 parameters);
    (128, 128, 64) and latent 256 is CMI's (2,328,899); that with `bias` and `standardised` is DFAD's (2,329,091).
    Raises ValueError for other sizes.
    """

    def __init__(
        self,
        latent: int,
        shape: tuple[int, int, int],
        widths: tuple[int, int, int] = (256, 128, 64),
        bias: bool = False,
        standardised: bool = False,
    ):
        super().__init__()
        (channels, height, width), (first, second, third) = shape, widths
        if height % 4 or width % 4:
            raise ValueError(f"the generator doubles twice, so image sides must be multiples of 4, not {height} x {width}")
        end = [nn.Tanh(), nn.BatchNorm2d(channels, affine=False)] if standardised else [nn.Sigmoid()]
        self.layers = nn.Sequential(
            nn.Linear(latent, first * (height // 4) * (width // 4)),
            nn.Unflatten(1, (first, height // 4, width // 4)),
            nn.BatchNorm2d(first),
            *_upsample(first, second, bias),
            *_upsample(second, third, bias),
            nn.Conv2d(third, channels, 3, 1, 1),
            *end,
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class DeepGenerator(nn.Module):
    """Constant-width generator for larger images (as MosaicKD released it; 290,563 parameters at 128 px, 212,995 at 64 px).

    Raises ValueError if a side of `shape` (C, H, W) is not a multiple of 32. `features` is the width of every layer.
    """

    def __init__(self, latent: int, shape: tuple[int, int, int], features: int = 64):
        super().__init__()
        channels, height, width = shape
        if height % 32 or width % 32:
            raise ValueError(
                f"the deep generator doubles five times, so image sides must be multiples of 32, not {height} x {width}"
            )
        self.layers = nn.Sequential(
            nn.Linear(latent, features * (height // 32) * (width // 32)),
            nn.Unflatten(1, (features, height // 32, width // 32)),
            nn.BatchNorm2d(features),
            nn.LeakyReLU(0.2, inplace=True),
            *(layer for _ in range(5) for layer in _upsample(features, features, bias=True)),
            nn.Conv2d(features, channels, 3, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


def fits_transposed(shape: tuple[int, int, int]) -> bool:
    """Whether `TransposedGenerator` makes images of `shape` (C, H, W)."""
    return not any(side % 16 for side in shape[1:])


class TransposedGenerator(nn.Module):
    """DFAD's generator B, of transposed convolutions with DCGAN's weights, for larger images (11,243,203 parameters at 128 px).

    Widths are 8, 4, 2, 1 and 1 times `width`. Raises ValueError if a side of `shape` (C, H, W) is not a multiple of 16.
    """

    def __init__(self, latent: int, shape: tuple[int, int, int], width: int = 64):
        super().__init__()
        channels, height, width_px = shape
        if not fits_transposed(shape):
            raise ValueError(
                f"the generator doubles four times, so image sides must be multiples of 16, not {height} x {width_px}"
            )
        widths = [8 * width, 4 * width, 2 * width, width, width]
        doubled: list[nn.Module] = []
        for below, above in itertools.pairwise(widths):
            doubled += [nn.ConvTranspose2d(below, above, 4, 2, 1, bias=False), nn.BatchNorm2d(above)]
            doubled.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(
            nn.Linear(latent, widths[0] * (height // 16) * (width_px // 16)),
            nn.Unflatten(1, (widths[0], height // 16, width_px // 16)),
            nn.BatchNorm2d(widths[0]),
            *doubled,
            nn.Conv2d(width, channels, 3, 1, 1),
            nn.Tanh(),
        )
        redraw(self)

    def forward(self, z: Tensor) -> Tensor:
        return (self.layers(z) + 1) / 2


def generator_for(latent: int, shape: tuple[int, int, int], width: int, narrow: bool = False) -> nn.Module:
    """The shallow generator for `shape` (C, H, W) up to 32 pixels and where 32 does not divide both sides, the deep one above.

    The shallow one's widths are 4, 2 and 1 times `width`, or 2, 2 and 1 times where it is `narrow`.
    """
    sides = shape[1:]
    if max(sides) > 32 and not any(side % 32 for side in sides):
        return DeepGenerator(latent, shape, width)
    return Generator(latent, shape, ((2 if narrow else 4) * width, 2 * width, width))


def redraw(net: nn.Module) -> None:
    """Fresh weights as in DCGAN: linear and convolution N(0, 0.02), batch-norm scale N(1, 0.02), all offsets 0."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d) and module.weight is not None:
            nn.init.normal_(module.weight, float(isinstance(module, nn.BatchNorm2d)), 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
