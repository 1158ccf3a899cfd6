"""Impressions as pure functions of tensors: the statistics of a template's responses (Fang et al. 2020, arXiv:2007.05441).

Of each of the template's layers there is a mean and, where it is asked for, a deviation over the places of each cell of a g x g
grid, (n, C, g, g) each, of n images or sets of images.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.losses.precision import full

EPSILON = 1e-6  # within the root, whose slope at 0 has no bound
Statistics = tuple[Tensor, ...]  # (mean,) or (mean, deviation), (n, C, g, g) each


def statistics(responses: Tensor, grid: int = 1, deviations: bool = True) -> Statistics:
    """Mean and deviation of one layer's responses (n, C, H, W), per image, biased. A finer grid than the layer is its places."""
    x = full(responses)
    cells = min(grid, x.shape[2]), min(grid, x.shape[3])
    centre = x.detach().mean((2, 3), keepdim=True)  # a variance does not depend on it, but for rounding
    apart = x - centre
    mean = F.adaptive_avg_pool2d(apart, cells)
    if not deviations:
        return (centre + mean,)
    variance = F.adaptive_avg_pool2d(apart.square(), cells) - mean.square()
    return centre + mean, (variance.clamp(min=0) + EPSILON).sqrt()


def pooled(given: Statistics) -> Statistics:
    """The statistics (1, C, g, g) of a set of n images as one, by the law of total variance."""
    mean = given[0].mean(0, keepdim=True)
    if len(given) == 1:
        return (mean,)
    return mean, (given[1].square().mean(0, keepdim=True) + given[0].var(0, correction=0, keepdim=True)).sqrt()


def shifted(given: Statistics, source: Statistics, target: Statistics, amount: float = 1.0) -> Statistics:
    """Moved as one set's statistics are moved to another's: means by the difference, deviations by the ratio to that power."""
    mean = given[0] + amount * (target[0] - source[0])
    return (mean,) if len(given) == 1 else (mean, given[1] * (target[1] / source[1]) ** amount)


def drawn(given: Statistics, n: int) -> Statistics:
    """n targets around a set's images: means normal, with the variance that theirs have; deviations are the images'."""
    spread = given[0].std(0, correction=0, keepdim=True)
    mean = given[0].mean(0, keepdim=True) + spread * torch.randn(n, *spread.shape[1:]).to(spread)
    return (mean, *(one.square().mean(0, keepdim=True).sqrt().expand(n, -1, -1, -1) for one in given[1:]))


def vectors(layers: Sequence[Statistics], scales: Sequence[float]) -> Tensor:
    """Rows (n, D) whose squared Euclidean distance is D of two impressions.

    The mean over layers of the squared differences of means, and of deviations, each a mean over channels (and cells), over the
    layer's scale s.
    """
    rows = [
        one.flatten(1) / math.sqrt(one[0].numel() * scale * len(layers))
        for given, scale in zip(layers, scales, strict=True)
        for one in given
    ]
    return torch.cat(rows, 1)


def scale(means: Tensor) -> float:
    """s of a layer: the mean over channels of the variance of the means (n, C, 1, 1) over a reference set."""
    return max(means.var(0, correction=0).mean().item(), EPSILON)


def between(given: Statistics) -> float:
    """The share of the variance of a layer's responses that lies between images, not within: a mean over channels."""
    among = given[0].var(0, correction=0)
    return (among / (among + given[1].square().mean(0))).mean().item()


def relations(one: Tensor, other: Tensor) -> Tensor:
    """Distances D (n, m) of the rows of `vectors` of n and of m impressions."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square()


def similarity(distances: Tensor) -> Tensor:
    """R (n, n) of distances D (n, n) of n impressions: exp(-D / median D) over different ones; 1 is the same."""
    return (-distances / distances[~torch.eye(len(distances), dtype=torch.bool)].median()).exp()


def variation(images: Tensor) -> Tensor:
    """Total variation of each image (n, C, H, W): mean absolute difference of neighbours, down and across."""
    return images.diff(dim=2).abs().mean((1, 2, 3)) + images.diff(dim=3).abs().mean((1, 2, 3))
