"""Pixel units outside, normalised units inside."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def per_channel(values: Sequence[float], like: Tensor | None = None) -> Tensor:
    """One number a channel, (C, 1, 1), to be used with images (..., C, H, W); on the device and of the type of `like`."""
    return torch.tensor(values, device=None if like is None else like.device, dtype=None if like is None else like.dtype).view(
        -1, 1, 1
    )


class Normalize(nn.Module):
    """Images in [0, 1] -> (x - mean) / std per channel, with the statistics of the teacher's training data."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]):
        super().__init__()
        self.register_buffer("mean", per_channel(mean))
        self.register_buffer("std", per_channel(std))

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
