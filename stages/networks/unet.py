"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597), small and with batch normalisation, for segmentation."""

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FORMS = {r"unet_(\d+)": "unet_WIDTH"}


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """A U-Net of the width in the name; raises ValueError for images whose sides are no multiples of 8."""
    if any(side % 8 for side in shape[1:]):
        raise ValueError(f"it halves three times, so image sides must be multiples of 8, not {shape[1]} x {shape[2]}")
    return UNet(int(match[1]), classes, shape[0])


def _twice(width_in: int, width_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for below in (width_in, width_out):
        layers += [nn.Conv2d(below, width_out, 3, 1, 1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Four levels of two Conv3x3-BN-ReLU of widths w, 2w, 4w, 8w, halved by maxima; three back up, each beside its level's map.

    (B, channels, H, W), sides multiples of 8 -> logits (B, classes, H, W). Its stages are the levels on the way down.
    """

    taps = ("down.0", "down.1", "down.2", "down.3")

    def __init__(self, width: int, classes: int, channels: int = 3):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(_twice(below, above) for below, above in zip([channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(_twice(below + above, above) for below, above in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for level, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if level else x)
            maps.append(x)
        for up, beside in zip(self.up, maps[-2::-1], strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), beside], 1))
        return self.head(x)
