"""What the teacher's penultimate features say of a set of images: how far from in-domain images, and how varied."""

import torch
from stages.taps import last_linear, look
from torch import Tensor

from stages.datasets.images import to_unit
from stages.engine.players import Teacher


@torch.no_grad()
def penultimate(teacher: Teacher, pixels: Tensor, batch: int = 256) -> Tensor:
    """What enters the teacher's last linear layer, (n, F), for uint8 images (n, C, S, S)."""
    features, device = [], next(teacher.parameters()).device
    for part in pixels.split(batch):
        _, (feature,) = look(teacher, to_unit(part.to(device)), [last_linear(teacher)])
        features.append(feature.float().cpu())
    return torch.cat(features)


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two sets of features (n, F): the formula of FID (Heusel et al. 2017).

    Its bias falls with n, so compare only sets of one size.
    """
    a, b = one.double(), other.double()
    first, second = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # tr (C1 C2)^(1/2) = tr (R C2 R)^(1/2) with R = C1^(1/2), which is symmetric: no trouble with singular matrices
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * shared).item()


def pair_distances(features: Tensor) -> Tensor:
    """Euclidean distance of every two of n features (n, F), (n (n - 1) / 2)."""
    return torch.pdist(features)
