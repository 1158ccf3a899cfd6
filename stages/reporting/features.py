"""What the teacher's penultimate features say of a set of images: how far from in-domain images, and how varied."""

from collections.abc import Iterable

import torch
from torch import Tensor

from stages.engine.teacher import Teacher
from stages.losses.precision import full
from stages.networks.taps import logits_and_features
from stages.support.seeds import shuffled

PAIRED = 2000  # images whose distances in pairs are looked at


def penultimate(teacher: Teacher, batches: Iterable[Tensor]) -> Tensor:
    """The teacher's penultimate features (n, F), to half precision, for batches of inputs as a network sees them."""
    found = logits_and_features(teacher, batches, features=True)
    return full(torch.cat([features for _, features in found if features is not None]))


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


def _spread(features: Tensor) -> Tensor:
    return pair_distances(features[shuffled(len(features))[:PAIRED].sort().values]).mean()


def likeness(synthetic: Tensor, in_domain: Tensor) -> dict[str, float]:
    """What the teacher's features (n, F) of synthetic images say beside those (m, F) of in-domain ones.

    fd: Fréchet distance, where n > F and m > F; spread: mean distance of pairs in % of the in-domain one, of some of each.
    """
    spread = _spread(synthetic) / _spread(in_domain)
    result = {"spread": 100 * spread.item()}
    if min(len(synthetic), len(in_domain)) > synthetic.shape[1]:  # a covariance of fewer images is singular
        result["fd"] = frechet_distance(synthetic, in_domain)
    return result
