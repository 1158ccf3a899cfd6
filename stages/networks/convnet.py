"""A small convolutional classifier for images of 8 to 32 pixels."""

import re

from torch import Tensor, nn

FORMS = {r"convnet_(\d+)": "convnet_WIDTH"}


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """A ConvNet of the width in the name."""
    return ConvNet(int(match[1]), classes, shape[0])


def _layer(width_in: int, width_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU(inplace=True)]


class ConvNet(nn.Module):
    """Three Conv3x3-BN-ReLU layers of widths w, 2w, 4w and strides 2, 1, 2, global average pooling, one linear layer.

    (B, channels, H, W) -> logits (B, classes).
    """

    taps = ("features.2", "features.5", "features.8")

    def __init__(self, width: int, classes: int, channels: int = 1):
        super().__init__()
        self.features = nn.Sequential(*_layer(channels, width, 2), *_layer(width, 2 * width, 1), *_layer(2 * width, 4 * width, 2))
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))
