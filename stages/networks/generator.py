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
    """Shallow generator for a size that is a multiple of 4, with three widths from the first layer to the last but one.

    `standardised` ends in tanh and batch normalisation without parameters instead of a sigmoid: then every channel has mean 0
    and variance 1 over the batch. At 32 px RGB, widths (256, 128, 64), latent 100 it is MosaicKD's (2,026,051 parameters);
    (128, 128, 64) and latent 256 is CMI's (2,328,899); that with `bias` and `standardised` is DFAD's (2,329,091).
    Raises ValueError for other sizes.
    """

    def __init__(
        self,
        latent: int,
        size: int,
        channels: int,
        widths: tuple[int, int, int] = (256, 128, 64),
        bias: bool = False,
        standardised: bool = False,
    ):
        super().__init__()
        if size % 4:
            raise ValueError(f"the generator doubles twice, so the image size must be a multiple of 4, not {size}")
        first, second, third = widths
        end = [nn.Tanh(), nn.BatchNorm2d(channels, affine=False)] if standardised else [nn.Sigmoid()]
        self.layers = nn.Sequential(
            nn.Linear(latent, first * (size // 4) ** 2),
            nn.Unflatten(1, (first, size // 4, size // 4)),
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


def generator_for(latent: int, size: int, channels: int, width: int, narrow: bool = False) -> nn.Module:
    """The shallow generator up to 32 pixels and where 32 does not divide the size, the deep one above.

    The shallow one's widths are 4, 2 and 1 times `width`, or 2, 2 and 1 times where it is `narrow`.
    """
    if size > 32 and size % 32 == 0:
        return DeepGenerator(latent, size, channels, width)
    return Generator(latent, size, channels, ((2 if narrow else 4) * width, 2 * width, width))


def redraw(net: nn.Module) -> None:
    """Fresh weights as in DCGAN: linear and convolution N(0, 0.02), batch-norm scale N(1, 0.02), all offsets 0."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.BatchNorm2d) and module.weight is not None:
            nn.init.normal_(module.weight, float(isinstance(module, nn.BatchNorm2d)), 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
