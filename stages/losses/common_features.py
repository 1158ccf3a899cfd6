"""How far apart two sets of features lie, as distributions; pure functions of maps (B, C, H, W) or vectors (B, D)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.losses.precision import exact, full

SIGMAS = (0.001, 0.01, 0.05, 0.1, 0.2, 1.0, 2.0)  # of the released code; below 0.1 only the diagonal is not 0
PARTS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the median squared distance


def mmd(one: Tensor, other: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of two sets, each example flattened and scaled to unit length.

    Mean over Gaussian kernels whose squared bandwidths are `PARTS` of the median squared distance of two examples. It can fall
    below 0 where the sets are alike (Gretton et al. 2012, lemma 6).
    """
    between = _squares(one, other)
    inner = [_squares(x, x) for x in (one, other)]
    apart = torch.cat([between.flatten(), *(_off_diagonal(squares) for squares in inner)]).detach()
    widths = [part * apart.median().clamp(min=1e-12) for part in PARTS]
    return _discrepancy(inner, between, widths, unbiased=True) / len(PARTS)


def reference_mmd(one: Tensor, other: Tensor, unbiased: bool = False) -> Tensor:
    """The same with the kernels of the released code of common feature learning (arXiv:1906.10546), summed.

    Unless `unbiased`, pairs of an example with itself count and the value is clamped at 0, as there.
    """
    squares = [_squares(x, x) for x in (one, other)]
    value = _discrepancy(squares, _squares(one, other), [sigma**2 for sigma in SIGMAS], unbiased)
    return value if unbiased else value.clamp(min=0)


def _discrepancy(inner: list[Tensor], between: Tensor, widths: list[Tensor] | list[float], unbiased: bool) -> Tensor:
    total = between.new_zeros(())
    for width in widths:
        first, second = (_kernel(squares, width) for squares in inner)
        own = [_off_diagonal(k).mean() if unbiased else k.mean() for k in (first, second)]
        total = total + own[0] + own[1] - 2 * _kernel(between, width).mean()
    return total


def _kernel(squares: Tensor, width: Tensor | float) -> Tensor:
    return (-squares / (2 * width)).exp()


@exact
def _squares(one: Tensor, other: Tensor) -> Tensor:
    """Squared distances (n, m) of unit vectors; exactly 0 of one to itself."""
    a, b = (F.normalize(full(x).flatten(1), dim=1) for x in (one, other))
    squares = (2 - 2 * a @ b.T).clamp(min=0)
    return squares * (1 - torch.eye(len(squares), dtype=squares.dtype, device=squares.device)) if one is other else squares


def _off_diagonal(square: Tensor) -> Tensor:
    n = len(square)
    return square.flatten()[:-1].view(n - 1, n + 1)[:, 1:].flatten()


def apart(features: Tensor) -> Tensor:
    """Mean of 1 - cosine over the pairs of n different examples, in [0, 2]; 0 where all point into one direction."""
    return _off_diagonal(_squares(features, features)).mean() / 2
