"""Doubling an image and convolving it, as one convolution of the small image: the same function in half the time."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))  # where a pixel lies in its two by two: row, column


def in_phases(layers: nn.Sequential) -> nn.Sequential:
    """The same layers with the same weights, where each doubling and the convolution behind it are one.

    It is for nearest neighbours and 3 x 3 convolutions with padding 1, as in `stages.networks.generator`.
    """
    merged: list[nn.Module] = []
    for layer in layers:
        if merged and isinstance(merged[-1], nn.Upsample):
            assert isinstance(layer, nn.Conv2d)
            merged[-1] = DoublingConv2d(layer)
        else:
            merged.append(layer)
    return nn.Sequential(*merged)


class DoublingConv2d(nn.Module):
    """Doubling by nearest neighbours, then a 3 x 3 convolution with padding 1: (B, C, H, W) -> (B, width, 2H, 2W).

    Three rows of the large image are two of the small one. So each of the four phases of a pixel has a 2 x 2 kernel of its own
    (Shi et al. 2016, arXiv:1609.07009): 16 products instead of 36. `conv` keeps its weights, so it is as if it stood here.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        kernels = phase_kernels(self.weight).contiguous(memory_format=torch.channels_last)
        bias = None if self.bias is None else self.bias.repeat(len(PHASES))
        large: Tensor = _Interleave.apply(functional.conv2d(x, kernels, bias, padding=1))
        return large


def phase_kernels(weight: Tensor) -> Tensor:
    """Kernels (O, C, 3, 3) of the large image -> kernels (4 O, C, 2, 2) of the small one, in the order of PHASES."""
    return torch.cat([kernel for of_row in _merged(weight, 2) for kernel in _merged(of_row, 3)])


def _merged(weight: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Three taps along a side -> two for the first and two for the second pixel of a pair: doubled pixels share a tap."""
    first, middle, last = weight.unbind(side)
    return torch.stack((first, middle + last), side), torch.stack((first + middle, last), side)


class _Interleave(torch.autograd.Function):
    """Phases (B, 4 O, H + 1, W + 1) of pixels, each with a border of its own -> the image (B, O, 2H, 2W).

    Written out because slices would each give back a gradient of the whole size.
    """

    @staticmethod
    def forward(ctx: Any, phases: Tensor) -> Tensor:
        count, channels, height, width = ctx.shape = phases.shape
        image = _empty(phases, (count, channels // len(PHASES), 2 * height - 2, 2 * width - 2))
        for part, of_phase in _parts(phases, image):
            of_phase.copy_(part)
        return image

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        phases = _empty(gradient, ctx.shape).zero_()
        for part, of_phase in _parts(phases, gradient):
            part.copy_(of_phase)
        return phases


def _empty(like: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _parts(phases: Tensor, image: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of each phase without its border, and of its pixels in the image."""
    height, width = phases.shape[2] - 1, phases.shape[3] - 1
    for part, (row, column) in zip(phases.chunk(len(PHASES), dim=1), PHASES, strict=True):
        yield part[:, :, row : row + height, column : column + width], image[:, :, row::2, column::2]
