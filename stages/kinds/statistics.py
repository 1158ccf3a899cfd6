"""Small statistics that kinds share."""

import torch
from torch import Tensor

from stages.datasets.examples import Examples


def percent(right: Tensor) -> float:
    """100 times the share of true entries."""
    return 100 * right.double().mean().item()


def channel_statistics(images: Examples) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, (C,) each, of pixels scaled to [0, 1]."""
    total = torch.zeros(images.shape[0], dtype=torch.float64)
    squares, pixels = torch.zeros_like(total), 0
    for batch in images.batches(1024):
        values = batch.double() / 255
        total += values.sum((0, 2, 3)).cpu()
        squares += values.square().sum((0, 2, 3)).cpu()
        pixels += values[:, 0].numel()
    mean = total / pixels
    return mean.float(), (squares / pixels - mean**2).clamp(min=0).sqrt().float()
