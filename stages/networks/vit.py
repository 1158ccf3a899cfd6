"""Vision transformers for small images (Dosovitskiy et al. 2021, arXiv:2010.11929): no batch normalisation, no stages."""

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FORMS = {r"vit_(\d+)_(\d+)": "vit_DEPTH_WIDTH (WIDTH a multiple of 32)"}
GRID = 8  # patches along a side
HEAD = 32  # width of a head of attention


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """A transformer of the depth and width in the name; raises ValueError for sides that 8 patches do not fill."""
    channels, height, width = shape
    if height % GRID or width % GRID:
        raise ValueError(f"it takes images whose sides are multiples of {GRID}, not {height} x {width}")
    if int(match[2]) % HEAD:
        raise ValueError(f"its width is a multiple of {HEAD}, not {match[2]}")
    return VisionTransformer(int(match[1]), int(match[2]), classes, channels, (height // GRID, width // GRID))


class _Block(nn.Module):
    """Pre-norm block: attention, then two layers of four times the width, each beside a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.attention, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.wide, self.narrow = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.attention(self.norm1(x)).unflatten(2, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class VisionTransformer(nn.Module):
    """ViT of 8 x 8 patches: (B, channels, H, W) -> logits (B, classes), of the mean over patches."""

    def __init__(self, depth: int, width: int, classes: int, channels: int, patch: tuple[int, int]):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.places = nn.Parameter(0.02 * torch.randn(GRID * GRID, width))
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        found: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return found
