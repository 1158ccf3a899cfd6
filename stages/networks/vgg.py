"""VGG-11 with batch normalisation for small images, from torchvision's layers."""

import re

import torch
from torch import Tensor, nn

FORMS = {"vgg11": "vgg11"}


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """Build a VGG-11."""
    return VGG11(classes, shape[0], min(shape[1:]))


class VGG11(nn.Module):
    """VGG-11-BN with global average pooling and one linear layer: (B, channels, H, W) -> logits (B, classes).

    The fourth pooling is there only for images of 64 pixels and more. Its taps lie before the activations.
    """

    def __init__(self, classes: int, channels: int = 3, size: int = 32):
        super().__init__()
        from torchvision.models.vgg import make_layers  # imported late, see resnet.py

        last_pool: list[str | int] = ["M"] if size >= 64 else []
        self.features = make_layers([64, "M", 128, "M", 256, 256, "M", 512, 512, *last_pool, 512, 512], batch_norm=True)
        if channels != 3:
            self.features[0] = nn.Conv2d(channels, 64, 3, 1, 1)
        self.taps = ("features.5", "features.12", "features.19", f"features.{len(self.features) - 2}")
        self.head = nn.Linear(512, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(self.features(x), 1), 1))
