"""Wide residual networks for small images (Zagoruyko & Komodakis 2016, arXiv:1605.07146)."""

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FORMS = {r"wrn(\d+)_(\d+)": "wrnDEPTH_WIDTH"}


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """A WideResNet of the depth and width in the name; raises ValueError for a depth that there is not."""
    return WideResNet(int(match[1]), int(match[2]), classes, shape[0])


class _Block(nn.Module):
    """Pre-activation block: BN-ReLU-Conv3x3(stride)-BN-ReLU-Conv3x3, all convolutions without bias."""

    def __init__(self, width_in: int, width_out: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(width_in, width_out, 1, stride, bias=False) if width_in != width_out else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        out = self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True))
        # Where the width changes, the pre-activated tensor feeds both branches.
        return out.add_(x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-depth-width without dropout: (B, channels, H, W) -> logits (B, classes).

    Raises ValueError if `depth` is not 6n + 4.
    """

    taps = ("groups.0", "groups.1", "groups.2")

    def __init__(self, depth: int, width: int, classes: int, channels: int = 3):
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"a wide residual network has depth 6n + 4 (10, 16, 22, 28, 34, 40, ...), not {depth}")
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.stem = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.groups = nn.ModuleList(
            nn.Sequential(
                *(_Block(widths[g] if i == 0 else widths[g + 1], widths[g + 1], stride if i == 0 else 1) for i in range(blocks))
            )
            for g, stride in enumerate((1, 2, 2))
        )
        self.bn = nn.BatchNorm2d(widths[3])
        self.head = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                k = module.kernel_size[0]
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / (k * k * module.out_channels)))
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for group in self.groups:
            x = group(x)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(F.relu(self.bn(x), inplace=True), 1), 1))
