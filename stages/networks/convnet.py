"""A small convolutional classifier for images of 8 to 32 pixels."""

import torch
from torch import Tensor, nn


def _layer(width_in: int, width_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU(inplace=True)]


class ConvNet(nn.Module):
    """Three Conv3x3-BN-ReLU layers of widths w, 2w, 4w (strides 1, 2, 2), flattened at 1/4 of the size, one linear layer.

    (B, channels, size, size) -> logits (B, classes).
    """

    def __init__(self, width: int, classes: int, channels: int = 1, size: int = 16):
        super().__init__()
        self.features = nn.Sequential(*_layer(channels, width, 1), *_layer(width, 2 * width, 2), *_layer(2 * width, 4 * width, 2))
        self.head = nn.Linear(4 * width * (size // 4) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.features(x), 1))
