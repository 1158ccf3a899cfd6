"""Residual networks for 32-pixel images: made for them, or torchvision's ResNet-18/34 with the stem that is usual there."""

import re

import torch.nn.functional as F
from torch import Tensor, nn

FORMS = {
    r"resnet(18|34)": "resnet18, resnet34",
    r"resnet(20|32|44|56|110)": "resnet20, resnet32, resnet44, resnet56, resnet110",
}
TAPS = ("layer1", "layer2", "layer3", "layer4")


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """A ResNet of the depth in the name."""
    depth = int(match[1])
    return cifar_resnet(depth, classes, shape[0]) if depth in (18, 34) else SmallResNet(depth, classes, shape[0])


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


class SmallResNet(nn.Module):
    """The networks of He et al. 2016 (arXiv:1512.03385, section 4.2): (B, channels, H, W) -> logits (B, classes).

    Three groups of (depth - 2) / 6 blocks with 16, 32 and 64 channels; shortcuts have no parameters (their option A).
    """

    taps = TAPS[:3]

    def __init__(self, depth: int, classes: int, channels: int = 3):
        super().__init__()
        from torchvision.models.resnet import BasicBlock

        blocks = (depth - 2) // 6
        self.stem = nn.Sequential(nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        for group, (before, width) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            first = BasicBlock(before, width) if width == before else BasicBlock(before, width, 2, _Wider(width - before))
            self.add_module(TAPS[group - 1], nn.Sequential(first, *(BasicBlock(width, width) for _ in range(blocks - 1))))
        self.head = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in TAPS[:3]:
            x = self.get_submodule(name)(x)
        return self.head(x.mean((2, 3)))


class _Wider(nn.Module):
    """Every second pixel, with `more` channels of zeros."""

    def __init__(self, more: int):
        super().__init__()
        self.more = more

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.more))
