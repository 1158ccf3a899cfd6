"""Pixel units outside, normalised units inside."""

import torch
from torch import Tensor, nn


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

    wraps = True

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
