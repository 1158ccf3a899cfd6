"""Losses of logits, as pure functions: what the student learns of the teacher, and what the teacher says of an image.

Logits are (B, K), or (B, K, H, W) where every place has its own; a result is a scalar unless said otherwise. Equations without a
source are those of MosaicKD (Fang et al. 2021, arXiv:2110.15094).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.losses.precision import full


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


def by_place(x: Tensor) -> Tensor:
    """(B, C, ...) -> (B ..., C): a row for every place."""
    return x.movedim(1, -1).flatten(0, -2)


def balance(logits: Tensor, base: float = 2.0) -> Tensor:
    """Negative entropy of the mean prediction over batch and places, in [-log_base K, 0]; lowest when classes are even.

    MosaicKD takes bits (base 2); DAFL's and DFQ's benchmark takes nats (base e): 1 unit in bits is 1.4427 units in nats.
    """
    log_p = by_place(F.log_softmax(full(logits), 1))
    log_mean = torch.logsumexp(log_p, 0) - math.log(len(log_p))
    return (log_mean.exp() * log_mean).sum() / math.log(base)
