"""AuG-KD's losses written out sample by sample, as the method's description states them; slow and plain."""

import math

import torch


def kl(t, s, tau=1.0):
    p, q = (t / tau).softmax(1), (s / tau).softmax(1)
    return tau**2 * (p * (p / q).log()).sum(1).mean()


def generator_loss(t, s, inputs, norms, balance, bn):
    """-KL + CE of T with its own prediction + balance sum p ln p + batch-norm errors, per channel and layer."""
    mean_p = t.softmax(1).mean(0)
    terms = []
    for x, norm in zip(inputs, norms, strict=True):
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        terms.append((((mean - norm.running_mean) ** 2).sum() + ((var - norm.running_var) ** 2).sum()) / len(mean))
    confidence = -t.log_softmax(1).amax(1).mean()
    return -kl(t, s) + confidence + balance * (mean_p * mean_p.log()).sum() + bn * sum(terms) / len(terms)


def encoder_loss(mean, log_variance, noise, z):
    total = 0.0
    for m, v, e, target in zip(mean, log_variance, noise, z, strict=True):
        drawn = m + e.clamp(-10, 10) * torch.exp(v / 2)
        total = total + ((drawn - target) ** 2).sum() + 2.5e-4 * 0.5 * (m**2 + v.exp() - 1 - v).sum()
    return total / len(mean)


def anchor_loss(logits, labels, mask, invariant, weight, label_weight):
    p = logits.softmax(1)
    uncertainty = -(p * p.log()).sum(1).mean() / math.log(logits.shape[1])
    right = -torch.stack([row.log_softmax(0)[y] for row, y in zip(logits, labels, strict=True)]).mean()
    return uncertainty + weight * (mask.mean() - (1 - invariant)) ** 2 + label_weight * right


def mixup_loss(s_real, s_mixed, t_mixed, labels, f, tau):
    right = torch.cat([s_real, s_mixed]).log_softmax(1)
    ce = -torch.stack([row[y] for row, y in zip(right, torch.cat([labels, labels]), strict=True)]).mean()
    return 0.5 * ce + (1 - f) * kl(t_mixed, s_mixed, tau)
