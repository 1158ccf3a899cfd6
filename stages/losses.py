"""Losses as pure functions of tensors. Logits are (B, K); every result is a scalar unless said otherwise.

Equations without a source are those of MosaicKD (Fang et al. 2021, arXiv:2110.15094).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# A 32-pixel image has 8 x 8 patches in the paper, whose losses are sums over them. Means times 64 keep the paper's weights
# meaningful for every patch geometry and image size.
PAPER_PATCHES = 64


def full(x: Tensor) -> Tensor:
    """`x` in at least fp32: losses are not computed in the half precision of a forward."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def kl_divergence(teacher: Tensor, student: Tensor, tau: float = 1.0) -> Tensor:
    """KL(T || S) = sum_c softmax(t)_c [log softmax(t)_c - log softmax(s)_c], mean over samples, times tau^2 (Hinton et al. 2015).

    Gradient flows into both arguments.
    """
    log_t = F.log_softmax(full(teacher) / tau, 1)
    log_s = F.log_softmax(full(student) / tau, 1)
    return (log_t.exp() * (log_t - log_s)).sum(1).mean() * tau**2


def entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits) per sample in nats, (B,) in [0, ln K]; its batch mean is MosaicKD's alignment term (eq. 4).

    Through log-softmax, so that a probability which underflows gives 0 and never NaN.
    """
    log_p = F.log_softmax(full(logits), 1)
    return -(log_p.exp() * log_p).sum(1)


def balance(logits: Tensor) -> Tensor:
    """Negative entropy of the batch-mean prediction in bits, in [-log2 K, 0]; lowest when classes are even (MosaicKD, appendix).

    1 unit here is 1.4427 of the natural-log form and 3.3219 of the log10 form.
    """
    log_p = F.log_softmax(full(logits), 1)
    log_mean = torch.logsumexp(log_p, 0) - math.log(len(logits))
    return (log_mean.exp() * log_mean).sum() / math.log(2)


def patch_discrimination(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's loss on logit maps (B, 1, h, w): 64 * [mean BCE(fake, 0) + mean BCE(real, 1)] / 2.

    Chance level is 64 ln 2 = 44.4; for 8 x 8 maps this is the paper's sum over patches divided by 2B.
    """
    return PAPER_PATCHES * (F.softplus(full(fake)).mean() + F.softplus(-full(real)).mean()) / 2


def patch_realism(fake: Tensor) -> Tensor:
    """Generator's local term on the logit map (B, 1, h, w): 64 * mean BCE(fake, 1), non-saturating (eq. 3)."""
    return PAPER_PATCHES * F.softplus(-full(fake)).mean()
