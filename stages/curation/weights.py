"""How often each image of a pool should be drawn so that the pool as a whole looks, to the teacher, like its training data."""

from collections.abc import Iterable

import torch
from torch import Tensor

SKETCH = 1024  # numbers that stand for an image's statistics
STEPS, LR = 300, 0.1  # of Adam, full batch
FIRST = 1e-3  # penalty on uneven weights
FEWEST = 0.2  # of the images, that the weights must be worth: 1 / sum of w^2


def sketched(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Batches (b, D) -> (n, 1024) at most, twice: Gaussian projections, which keep squared lengths of sums of rows on average.

    Both are independent, so that weights which the one has led to can be graded by the other.
    """
    found: tuple[list[Tensor], list[Tensor]] = [], []
    projections: list[Tensor] = []
    for rows in batches:
        if not projections and (width := rows.shape[1]) > SKETCH:
            generator = torch.Generator().manual_seed(0)
            projections = [(torch.randn(width, SKETCH, generator=generator) / SKETCH**0.5).to(rows.dtype) for _ in found]
        for i, part in enumerate(found):
            part.append(rows @ projections[i] if projections else rows)
    return torch.cat(found[0]), torch.cat(found[1])


def class_deviations(probabilities: Tensor) -> Tensor:
    """(n, K) -> (n, K): rows whose weighted sum has the squared length K sum_k (sum_i w_i p_ik - 1/K)^2."""
    classes = probabilities.shape[1]
    return classes**0.5 * (probabilities - 1 / classes)


def matching(deviations: Tensor, fewest: float = FEWEST) -> tuple[Tensor, float]:
    """Weights w (n,), which sum to 1, and the penalty e: they minimise |sum_i w_i d_i|^2 + e KL(w || uniform) over the simplex.

    `deviations` d are (n, D). The penalty is doubled until 1 / sum w^2 is at least `fewest` of n. By Adam on w's logits.
    """
    n, penalty = len(deviations), FIRST
    logits = torch.zeros(n, dtype=deviations.dtype, requires_grad=True)
    while True:
        optimizer = torch.optim.Adam([logits], LR)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            log_w = logits.log_softmax(0)
            w = log_w.exp()
            loss = (w @ deviations).square().sum() + penalty * (w * (log_w + torch.tensor(float(n)).log())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
        w = logits.detach().softmax(0)
        if effective(w) >= fewest * n:
            return w, penalty
        penalty *= 2


def mismatch(weights: Tensor, deviations: Tensor) -> float:
    """|sum_i w_i d_i|^2, of weights (n,) that sum to 1."""
    return (weights @ deviations).square().sum().item()


def effective(weights: Tensor) -> float:
    """How many images weights (n,) are worth: 1 / sum w^2."""
    return (1 / weights.square().sum()).item()
