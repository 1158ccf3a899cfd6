"""Generators: noise (B, latent) -> images (B, channels, size, size) in [0, 1]."""

from torch import Tensor, nn


def _upsample(width_in: int, width_out: int, bias: bool) -> list[nn.Module]:
    return [
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(width_in, width_out, 3, 1, 1, bias=bias),
        nn.BatchNorm2d(width_out),
        nn.LeakyReLU(0.2, inplace=True),
    ]


class Generator(nn.Module):
    """Shallow generator for a size that is a multiple of 4 (as MosaicKD released it; 2,026,051 parameters at 32 px RGB).

    Raises ValueError for other sizes.
    """

    def __init__(self, latent: int, size: int, channels: int, width: int = 64):
        super().__init__()
        if size % 4:
            raise ValueError(f"the generator doubles twice, so the image size must be a multiple of 4, not {size}")
        first = 4 * width
        self.layers = nn.Sequential(
            nn.Linear(latent, first * (size // 4) ** 2),
            nn.Unflatten(1, (first, size // 4, size // 4)),
            nn.BatchNorm2d(first),
            *_upsample(first, 2 * width, bias=False),
            *_upsample(2 * width, width, bias=False),
            nn.Conv2d(width, channels, 3, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class DeepGenerator(nn.Module):
    """Constant-width generator for larger images (as MosaicKD released it; 290,563 parameters at 128 px, 212,995 at 64 px).

    Raises ValueError if `size` is not a multiple of 32.
    """

    def __init__(self, latent: int, size: int, channels: int, width: int = 64):
        super().__init__()
        if size % 32:
            raise ValueError(f"the deep generator doubles five times, so the image size must be a multiple of 32, not {size}")
        self.layers = nn.Sequential(
            nn.Linear(latent, width * (size // 32) ** 2),
            nn.Unflatten(1, (width, size // 32, size // 32)),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2, inplace=True),
            *(layer for _ in range(5) for layer in _upsample(width, width, bias=True)),
            nn.Conv2d(width, channels, 3, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


def generator_for(latent: int, size: int, channels: int, width: int) -> nn.Module:
    """The shallow generator up to 32 pixels and where 32 does not divide the size, the deep one above."""
    build = DeepGenerator if size > 32 and size % 32 == 0 else Generator
    return build(latent, size, channels, width)
