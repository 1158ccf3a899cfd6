"""Losses of synthetic images and of what makes them, as pure functions; every result is a scalar.

Equations without a source are those of MosaicKD (Fang et al. 2021, arXiv:2110.15094).
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.losses.precision import exact, full

Moments = tuple[Tensor, Tensor]  # mean and variance, (C,) each

# A 32-pixel image has 8 x 8 patches in the paper, whose losses are sums over them. Means times 64 keep the paper's weights
# meaningful for every patch geometry and image size.
PAPER_PATCHES = 64


def statistics_mismatch(batch: list[Moments], stored: list[Moments]) -> Tensor:
    """Sum over layers of ||mean - stored mean|| + ||var - stored var||, Euclidean norms over channels, not squared.

    The batch-norm term R of DeepInversion (Yin et al. 2020, arXiv:1912.08795, eq. 4).
    """
    pairs = zip(itertools.chain(*batch), itertools.chain(*stored), strict=True)
    return torch.stack([(mine - theirs).norm() for mine, theirs in pairs]).sum()


def statistics_error(batch: list[Moments], stored: list[Moments]) -> Tensor:
    """Mean over layers and channels of the squared differences of means, and of variances, both added (AuG-KD, per channel)."""
    pairs = zip(itertools.chain(*batch), itertools.chain(*stored), strict=True)
    return 2 * torch.stack([(mine - theirs).square().mean() for mine, theirs in pairs]).mean()


def latent_error(drawn: Tensor, z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Squared error of drawn latents (B, D), plus 2.5e-4 KL(N(mean, variance) || N(0, 1)); summed over D, batch mean (AuG-KD)."""
    mean, log_variance = full(mean), full(log_variance)
    prior = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return ((full(drawn) - z).square() + 2.5e-4 * prior).sum(1).mean()


def invariance(mask: Tensor, share: float) -> Tensor:
    """(mean of the mask - (1 - share))^2 for a mask (B, D) of latents that are rewritten (AuG-KD, a mean over samples)."""
    return (full(mask).mean() - (1 - share)).square()


def total_variation(images: Tensor) -> Tensor:
    """Sum over four directions of the mean absolute difference of neighbouring pixels of (B, C, H, W)."""
    return torch.stack([difference.abs().mean() for difference in _neighbours(images)]).sum()


def _neighbours(x: Tensor) -> tuple[Tensor, ...]:
    return (
        x[..., :, :-1] - x[..., :, 1:],
        x[..., :-1, :] - x[..., 1:, :],
        x[..., :-1, :-1] - x[..., 1:, 1:],
        x[..., 1:, :-1] - x[..., :-1, 1:],
    )


@exact
def contrast(local: Tensor, views: Tensor, tau: float, current: int) -> Tensor:
    """InfoNCE of unit vectors (N + M, D): row i of `local` against all of `views`, which get no gradient; its match is row i.

    The first `current` rows are this batch's and the rest remembered; the means of both groups are added, so that memory does
    not dilute the batch (CMI, Fang et al. 2021, arXiv:2105.08584).
    """
    logits = full(local) @ full(views.detach()).T / tau
    each = F.cross_entropy(logits, torch.arange(len(local), device=local.device), reduction="none")
    return each[:current].mean() + (each[current:].mean() if len(each) > current else 0.0)


def patch_discrimination(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's loss on logit maps (B, 1, h, w): 64 * [mean BCE(fake, 0) + mean BCE(real, 1)] / 2.

    Chance level is 64 ln 2 = 44.4; for 8 x 8 maps this is the paper's sum over patches divided by 2B.
    """
    return PAPER_PATCHES * (F.softplus(full(fake)).mean() + F.softplus(-full(real)).mean()) / 2


def patch_realism(fake: Tensor) -> Tensor:
    """Generator's local term on the logit map (B, 1, h, w): 64 * mean BCE(fake, 1), non-saturating (eq. 3)."""
    return PAPER_PATCHES * F.softplus(-full(fake)).mean()
