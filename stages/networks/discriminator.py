"""Discriminators: images (B, C, H, W) -> raw logits (B, 1, h, w); positive means real."""

from torch import Tensor, nn

# Receptive field -> (kernel, stride, padding) of the layers below the final 1x1 convolution: MosaicKD's ablation with the
# slips of its release mended: the 1x1 has no padding, and 10 and 22 really see 10 and 22 pixels (they saw 8 and 15).
PATCHES = {
    1: [(1, 1, 0)],
    2: [(2, 1, 0)],
    4: [(4, 2, 1)],
    10: [(4, 2, 1)] * 2,
    18: [(4, 2, 1)] * 2 + [(3, 1, 1)],
    22: [(4, 2, 1)] * 3,
    46: [(4, 2, 1)] * 4,
}


class PatchDiscriminator(nn.Module):
    """Judges every `patch` x `patch` window by itself (MosaicKD, section 3; layers as released).

    The first layer has no batch normalisation; the k-th has min(2^k, 8) * width channels. Keeps every `stride`-th row and
    column of the logit map, which sets the overlap of neighbouring patches. At 32 px, patch 10, width 128: 531,328
    parameters. Raises KeyError for a patch that PATCHES does not list.
    """

    def __init__(self, channels: int, patch: int = 10, width: int = 128, stride: int = 1, first_bias: bool = True):
        super().__init__()
        self.stride = stride
        layers: list[nn.Module] = []
        below = channels
        for i, (kernel, step, padding) in enumerate(PATCHES[patch]):
            above = width * min(2**i, 8)
            layers.append(nn.Conv2d(below, above, kernel, step, padding, bias=first_bias and i == 0))
            layers += [nn.BatchNorm2d(above)] if i else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            below = above
        self.layers = nn.Sequential(*layers, nn.Conv2d(below, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[:, :, :: self.stride, :: self.stride]


class ImageDiscriminator(nn.Module):
    """Judges the whole image with one logit, (B, 1, 1, 1): the DeGAN-like ablation. Images are of `shape` (C, H, W).

    Halves the sides while both are even and at least 8.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 128):
        super().__init__()
        layers: list[nn.Module] = []
        below, *sides = shape
        above = width
        while min(sides) >= 8 and not any(side % 2 for side in sides):
            norm = [nn.BatchNorm2d(above)] if layers else []
            layers += [nn.Conv2d(below, above, 4, 2, 1, bias=not layers), *norm, nn.LeakyReLU(0.2, inplace=True)]
            below, above, sides = above, min(2 * above, 4 * width), [side // 2 for side in sides]
        self.layers = nn.Sequential(*layers, nn.Conv2d(below, 1, (sides[0], sides[1]), bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
