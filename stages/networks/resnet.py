"""Torchvision's ResNet-18/34 with the stem that is usual for 32-pixel images."""

import re

from torch import nn

FORMS = {r"resnet(18|34)": "resnet18, resnet34"}
TAPS = ("layer1", "layer2", "layer3", "layer4")


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """A ResNet of the depth in the name."""
    return cifar_resnet(int(match[1]), classes, shape[0])


def cifar_resnet(depth: int, classes: int, channels: int = 3) -> nn.Module:
    """ResNet-18/34 with a 3x3 stride-1 stem and no max-pool: (B, channels, H, W) -> logits (B, classes).

    Raises KeyError for a depth other than 18 or 34.
    """
    from torchvision import models  # imported late: torchvision doubles the start-up time of a stage

    net = {18: models.resnet18, 34: models.resnet34}[depth](num_classes=classes)
    net.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    net.taps = TAPS
    return net
