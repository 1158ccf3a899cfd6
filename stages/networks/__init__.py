"""Plain modules, built by name."""

import difflib
import re

import torch
from torch import Tensor, nn

from stages.errors import UserError
from stages.networks.convnet import ConvNet
from stages.networks.resnet import TAPS, cifar_resnet
from stages.networks.vgg import VGG11
from stages.networks.wrn import WideResNet

NAMES = ["convnet_WIDTH", "wrnDEPTH_WIDTH", "resnet18", "resnet34", "vgg11", "torchvision.NAME"]


class Normalize(nn.Module):
    """Images in [0, 1] -> (x - mean) / std per channel, with the statistics of the teacher's training data."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Normalized(nn.Module):
    """A network that sees normalised images while everything outside of it keeps images in [0, 1]."""

    def __init__(self, net: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.normalize(x))


class Denormalized(nn.Module):
    """A generator in normalised units whose images come out in pixel units: y * std + mean."""

    def __init__(self, net: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.net = net

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z) * self.normalize.std + self.normalize.mean


class _RepeatChannel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1)


def classifier(name: str, classes: int, channels: int, size: int) -> nn.Module:
    """The classifier called `name` with fresh weights: (B, channels, size, size) -> logits (B, classes).

    Raises UserError for an unknown name.
    """
    if match := re.fullmatch(r"convnet_(\d+)", name):
        return ConvNet(int(match[1]), classes, channels)
    if match := re.fullmatch(r"wrn(\d+)_(\d+)", name):
        try:
            return WideResNet(int(match[1]), int(match[2]), classes, channels)
        except ValueError as error:
            raise UserError(f"network '{name}': {error}") from None
    if match := re.fullmatch(r"resnet(18|34)", name):
        return cifar_resnet(int(match[1]), classes, channels)
    if name == "vgg11":
        return VGG11(classes, channels, size)
    if name.startswith("torchvision."):
        return _torchvision(name.removeprefix("torchvision."), classes, channels)
    raise UserError(f"network '{name}' is unknown; there are {', '.join(NAMES)} (NAME as in torchvision.models)")


def _torchvision(name: str, classes: int, channels: int) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        hint = difflib.get_close_matches(name, known, 3)
        raise UserError(
            f"torchvision.models has no classifier '{name}'" + (f"; did you mean {' or '.join(hint)}?" if hint else "")
        )
    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    net = models.get_model(name, weights=None, num_classes=classes, **options)
    if hasattr(net, "layer4"):
        net.taps = TAPS
    if channels == 1:
        return nn.Sequential(_RepeatChannel(), net)
    return net
