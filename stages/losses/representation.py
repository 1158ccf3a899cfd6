"""Losses on features, as pure functions. Maps are (B, C, H, W), vectors (B, D); every result is a scalar.

Teacher's arguments carry no graph. Sources: the papers named, in the form of RepDistiller (arXiv:1910.10699, appendix).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.losses.precision import exact, full


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of attention maps: channel-mean of squares, flattened, of unit length.

    Zagoruyko & Komodakis 2017, arXiv:1612.03928. The larger map is average-pooled to the size of the smaller.
    """
    size = min(student.shape[-1], teacher.shape[-1])
    mine, theirs = (
        F.normalize(F.adaptive_avg_pool2d(full(x), size).square().mean(1).flatten(1), dim=1) for x in (student, teacher)
    )
    return (mine - theirs).square().mean()


@exact
def similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """||G_T - G_S||^2 / B^2 with G = F F^T of flattened maps, each row of unit length (Tung & Mori 2019, arXiv:1907.09682)."""
    mine, theirs = (F.normalize(f @ f.T, dim=1) for f in (full(student).flatten(1), full(teacher).flatten(1)))
    return (theirs - mine).square().mean()


@exact
def relation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between matrices of pairwise distances, each in units of its own mean (Park et al. 2019, arXiv:1904.05068).

    Vectors (B, D_S) and (B, D_T).
    """
    return F.smooth_l1_loss(_distances(full(student)), _distances(full(teacher)))


def _distances(f: Tensor) -> Tensor:
    squares = f.square().sum(1)
    apart = 1 - torch.eye(len(f), dtype=f.dtype, device=f.device)
    distances = (squares[:, None] + squares[None] - 2 * f @ f.T).clamp(min=1e-12).sqrt() * apart
    return distances / distances[distances > 0].mean()


@exact
def relation_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between the cosines of the angles of all triplets (Park et al. 2019, arXiv:1904.05068).

    Vectors (B, D_S) and (B, D_T); takes memory for B^2 D numbers.
    """
    return F.smooth_l1_loss(_angles(full(student)), _angles(full(teacher)))


def _angles(f: Tensor) -> Tensor:
    towards = F.normalize(f[None] - f[:, None], dim=2)
    return towards @ towards.transpose(1, 2)


@exact
def two_views(one: Tensor, other: Tensor, tau: float, labels: Tensor | None = None) -> Tensor:
    """NT-Xent over the 2B unit vectors of two views (B, D) (Chen et al. 2020, arXiv:2002.05709): a row's match is its other view.

    Where `labels` (B,) are given, rows of the same label are no negatives of each other.
    """
    n, views = len(one), torch.cat([one, other])
    match = torch.arange(2 * n, device=one.device).roll(n)
    out = torch.eye(2 * n, dtype=torch.bool, device=one.device)
    if labels is not None:
        out |= _same(labels.repeat(2), match)
    return F.cross_entropy((views @ views.T / tau).masked_fill(out, -torch.inf), match)


@exact
def across(student: Tensor, teacher: Tensor, tau: float, labels: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE between unit vectors (B, D) of two networks: row i of the one matches row i of the other.

    Where `labels` (B,) are given, rows of the same label are no negatives of each other.
    """
    logits, match = student @ teacher.T / tau, torch.arange(len(student), device=student.device)
    if labels is not None:
        logits = logits.masked_fill(_same(labels, match), -torch.inf)
    return (F.cross_entropy(logits, match) + F.cross_entropy(logits.T, match)) / 2


def _same(labels: Tensor, match: Tensor) -> Tensor:
    """Pairs (n, n) of one label that are not a match."""
    same = labels[:, None] == labels[None]
    same[torch.arange(len(labels), device=labels.device), match] = False
    return same


def noise_contrast(positive: Tensor, negative: Tensor, count: int) -> Tensor:
    """CRD's NCE of scores: `positive` (B,), `negative` (B, K), in a set of `count` images (Tian et al. 2020, arXiv:1910.10699).

    - mean_b [ln(P+ / (P+ + K/n)) + sum ln((K/n) / (P- + K/n))], each denominator with 1e-7 added.
    """
    noise = negative.shape[1] / count
    right = (positive / (positive + noise + 1e-7)).log()
    wrong = (noise / (negative + noise + 1e-7)).log().sum(1)
    return -(right + wrong).mean()


@exact
def rotation_similarity(vectors: Tensor) -> Tensor:
    """Cosine of each turned copy with each upright image, (3B, B), of vectors (4B, D): B upright ones, then three turns of each.

    SSKD, Xu et al. 2020, arXiv:2006.07114.
    """
    unit = F.normalize(full(vectors), dim=1)
    upright = len(unit) // 4
    return unit[upright:] @ unit[:upright].T


def reliable(similarity: Tensor, share: float) -> Tensor:
    """Rows of the teacher's similarity (3B, B) that are worth learning: all that rank the right image first, and of the others
    the `share` in which it ranks highest. SSKD's selective transfer; a mask (3B,).
    """
    n = similarity.shape[1]
    right = torch.arange(len(similarity), device=similarity.device) % n
    rank = (similarity > similarity.gather(1, right[:, None])).sum(1)
    wrong = rank > 0
    kept = wrong.sum() * share
    order = torch.where(wrong, rank, len(similarity) + n).argsort(stable=True)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return ~wrong | (place < kept)
