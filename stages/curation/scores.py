"""Scores of OOD images, and choices by them.

`features` are (n, F), what enters T's last linear layer; `shares` (n, K) are each class's in what T predicts of an input, all or
nothing where that is one class; `predicted` (n,) is the one that stands out; scores are (n,).
ODSD is arXiv:2307.16601, whose formulas were not to be had: these keep its structure.
"""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 2**16  # features at a time that are in full precision


def standing_out(shares: Tensor) -> Tensor:
    """The class (n,) whose share of an input is the largest beside its share of all of them."""
    return (shares / shares.mean(0).clamp(min=1e-12)).argmax(1)


def outlier(features: Tensor, shares: Tensor, classifier: Tensor) -> Tensor:
    """1 - cosine of a feature to the rows of T's `classifier` (K, F) of what is predicted, in its shares; in [0, 2]."""
    blocks = zip(features.split(BLOCK), shares.split(BLOCK), strict=True)
    return torch.cat([1 - F.cosine_similarity(one.float(), share @ classifier, dim=1) for one, share in blocks])


def outlier_in_pool(features: Tensor, predicted: Tensor, sure: Tensor, count: int = 4) -> Tensor:
    """1 - cosine to the nearest prototype of the predicted class, in [0, 2].

    Prototypes are the centres of k-means on unit vectors, scaled to unit length, `count` of them, of the more confident half of a
    class by `sure` (n,); the mean where the half has fewer than 2 * count images.
    """
    result = torch.empty(len(features))
    for k in predicted.unique().tolist():
        mine = (predicted == k).nonzero().flatten()
        half = mine[best(sure[mine], math.ceil(len(mine) / 2))]
        centres = F.normalize(_centres(F.normalize(features[half].float(), dim=1), count), dim=1)
        for rows in mine.split(BLOCK):
            result[rows] = 1 - (F.normalize(features[rows].float(), dim=1) @ centres.T).amax(1)
    return result


def _centres(half: Tensor, count: int) -> Tensor:
    if len(half) < 2 * count:
        return half.mean(0, keepdim=True)
    from sklearn.cluster import KMeans  # a second to import, which every plan would wait for
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than centres: some coincide
        means = KMeans(count, init="k-means++", n_init=1, max_iter=10, random_state=0).fit(half.double().numpy())
    return torch.from_numpy(means.cluster_centers_).to(half.dtype)


def density(shares: Tensor) -> Tensor:
    """How crowded the predicted classes are: their share of all images, in units of the largest; a mean of several."""
    counts = shares.sum(0)
    return shares @ (counts / counts.max())


def quantiles(score: Tensor) -> dict[str, float]:
    """The score that 1 %, 25 %, 50 %, 75 % and 99 % of the images reach at most."""
    return {f"{q} %": _quantile(score, q).item() for q in (1, 25, 50, 75, 99)}


def scaled(score: Tensor) -> Tensor:
    """Mapped to [0, 1] by its 1 % and 99 % quantiles; beyond them clamped; 0 where all are the same."""
    low, high = (_quantile(score, q) for q in (1, 99))
    return ((score - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)


def _quantile(score: Tensor, percent: int) -> Tensor:
    return score.float().kthvalue(1 + round(percent / 100 * (len(score) - 1))).values


def best(score: Tensor, count: int) -> Tensor:
    """The rows of the `count` highest scores; the first ones where scores are equal."""
    return score.argsort(descending=True, stable=True)[:count]


def best_of_each(score: Tensor, predicted: Tensor, classes: int, count: int) -> Tensor:
    """`count` rows: the best of each class, `count` / K rounded down, then the best of all that are left."""
    order = best(score, len(score))
    quota, taken = count // classes, torch.zeros(len(score), dtype=torch.bool)
    for k in range(classes):
        taken[order[predicted[order] == k][:quota]] = True
    first = order[taken[order]]
    return torch.cat([first, order[~taken[order]][: count - len(first)]])


def effective_classes(shares: Tensor) -> float:
    """exp of the entropy of the mean shares: K where all classes are equally frequent."""
    mean = shares.double().mean(0)
    return math.exp(-torch.special.xlogy(mean, mean).sum().item())
