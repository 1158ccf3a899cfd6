"""Losses as pure functions of tensors. Logits are (B, K); every result is a scalar unless said otherwise.

Equations without a source are those of MosaicKD (Fang et al. 2021, arXiv:2110.15094).
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
Moments = tuple[Tensor, Tensor]  # mean and variance, (C,) each

# A 32-pixel image has 8 x 8 patches in the paper, whose losses are sums over them. Means times 64 keep the paper's weights
# meaningful for every patch geometry and image size.
PAPER_PATCHES = 64


def exact(loss: Callable[P, R]) -> Callable[P, R]:
    """`loss` outside of autocast, which would turn its matrix products back to half precision."""

    @functools.wraps(loss)
    def outside(*inputs: P.args, **options: P.kwargs) -> R:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return loss(*inputs, **options)

    return outside


def full(x: Tensor) -> Tensor:
    """`x` in at least fp32: losses are not computed in the half precision of a forward."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def kl_per_sample(teacher: Tensor, student: Tensor, tau: float = 1.0) -> Tensor:
    """KL(T || S) = sum_c softmax(t)_c [log softmax(t)_c - log softmax(s)_c] of logits (B, K) or (B, K, ...) -> (B) or (B, ...).

    Gradient flows into both arguments.
    """
    log_t = F.log_softmax(full(teacher) / tau, 1)
    log_s = F.log_softmax(full(student) / tau, 1)
    return (log_t.exp() * (log_t - log_s)).sum(1)


def kl_divergence(teacher: Tensor, student: Tensor, tau: float = 1.0) -> Tensor:
    """Mean of `kl_per_sample` times tau^2 (Hinton et al. 2015): summed over classes, averaged over all the rest."""
    return kl_per_sample(teacher, student, tau).mean() * tau**2


def kl_where_agreed(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean over the batch of KL(T || S) where both predict the same class, 0 elsewhere (CMI, decision-adversarial term)."""
    agreed = teacher.argmax(1) == student.argmax(1)
    return (kl_per_sample(teacher, student) * agreed).mean()


def jensen_shannon(teacher: Tensor, student: Tensor, tau: float = 3.0) -> Tensor:
    """JS divergence of tempered predictions, batch mean, in [0, ln 2]: DeepInversion's adaptive term, as its paper means it."""
    log_t, log_s = F.log_softmax(full(teacher) / tau, 1), F.log_softmax(full(student) / tau, 1)
    log_m = torch.logaddexp(log_t, log_s) - math.log(2)
    return 0.5 * ((log_t.exp() * (log_t - log_m)).sum(1).mean() + (log_s.exp() * (log_s - log_m)).sum(1).mean())


def reversed_jensen_shannon(teacher: Tensor, student: Tensor, tau: float = 3.0) -> Tensor:
    """[KL(M||P) + KL(M||Q)] / 2 on predictions clamped to [0.01, 0.99], clamped to [0, 1]: what DeepInversion released."""
    p, q = ((full(logits) / tau).softmax(1).clamp(0.01, 0.99) for logits in (student, teacher))
    m = ((p + q) / 2).clamp(0.01, 0.99)
    both = 0.5 * ((m * (m / p).log()).sum(1).mean() + (m * (m / q).log()).sum(1).mean())
    return both.clamp(0, 1)


def discrepancy(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean absolute difference of raw logits over samples, classes and places (DFAD, Fang et al. 2019, arXiv:1912.11006)."""
    return (full(teacher) - full(student)).abs().mean()


def entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits) per sample in nats, (B,) in [0, ln K]; its batch mean is MosaicKD's alignment term (eq. 4).

    Through log-softmax, so that a probability which underflows gives 0 and never NaN.
    """
    log_p = F.log_softmax(full(logits), 1)
    return -(log_p.exp() * log_p).sum(1)


def confidence(logits: Tensor) -> Tensor:
    """Cross-entropy against the prediction itself, mean (the one-hot term of DAFL, Chen et al. 2019, and DFQ)."""
    return F.cross_entropy(full(logits), logits.argmax(1))


def balance(logits: Tensor, base: float = 2.0) -> Tensor:
    """Negative entropy of the mean prediction, in [-log_base K, 0]; lowest when classes are even.

    MosaicKD takes bits (base 2); DAFL's and DFQ's benchmark takes nats (base e): 1 unit in bits is 1.4427 units in nats.
    """
    log_p = F.log_softmax(full(logits), 1).movedim(1, -1).flatten(0, -2)
    log_mean = torch.logsumexp(log_p, 0) - math.log(len(log_p))
    return (log_mean.exp() * log_mean).sum() / math.log(base)


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
    prior = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return ((full(drawn) - z).square() + 2.5e-4 * full(prior)).sum(1).mean()


def energy(logits: Tensor) -> Tensor:
    """- ln sum_k exp(logit_k), (B,): the lower, the surer (Liu et al. 2020, arXiv:2010.03759)."""
    return -full(logits).logsumexp(1)


def invariance(mask: Tensor, share: float) -> Tensor:
    """(mean of the mask - (1 - share))^2 for a mask (B, D) of latents that are rewritten (AuG-KD, a mean over samples)."""
    return (full(mask).mean() - (1 - share)).square()


def total_variation(images: Tensor) -> Tensor:
    """Sum over four directions of the mean absolute difference of neighbouring pixels of (B, C, H, W)."""
    return torch.stack([difference.abs().mean() for difference in _neighbours(images)]).sum()


def total_variation_l2(images: Tensor) -> Tensor:
    """Sum over four directions of the Frobenius norm of neighbours' differences over the whole batch (DeepInversion's TV)."""
    return torch.stack([difference.norm() for difference in _neighbours(images)]).sum()


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
    logits = local @ views.detach().T / tau
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
