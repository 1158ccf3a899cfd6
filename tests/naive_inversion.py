"""Fast-Datafree and CMI as their released code runs them, written straight down: a reference for tests and the benchmark.

Eager, nothing frozen, hooks that always stand, a cloned module for each batch; `teacher`, `student` and `generator` are bare
and see normalised images.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn


class Hook:
    """Feature regularisation of one BatchNorm layer, with Fast's momentum."""

    def __init__(self, module, mu=0.0):
        self.module, self.mu, self.past = module, mu, None
        module.register_forward_hook(self.hook)

    def hook(self, module, inputs, _):
        x = inputs[0]
        mean = x.mean((0, 2, 3))
        var = x.permute(1, 0, 2, 3).reshape(x.shape[1], -1).var(1, unbiased=False)
        self.feature = x.mean((2, 3))
        if self.past is not None:
            mean = self.mu * self.past[0] + (1 - self.mu) * mean
            var = self.mu * self.past[1] + (1 - self.mu) * var
        self.now = (mean.detach(), var.detach())
        self.r = (module.running_var - var).norm(2) + (module.running_mean - mean).norm(2)

    def update(self):
        self.past = self.now


def norms(net):
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


def adversarial(t, s):
    same = (t.argmax(1) == s.argmax(1)).to(t.dtype)
    return -((t.softmax(1) * (t.log_softmax(1) - s.log_softmax(1))).sum(1) * same).mean()


class NaiveFast:
    """One synthesis batch of Fast: `teacher` in eval, `student` in eval, first-order MAML."""

    def __init__(self, teacher, student, generator, normalize, augment, steps, lr, latent_lr, mu, weights):
        self.t, self.s, self.g = teacher.eval(), student.eval(), generator.train()
        self.normalize, self.augment, self.steps, self.lrs, self.weights = normalize, augment, steps, (lr, latent_lr), weights
        for net in (self.t, self.s, self.g):
            net.requires_grad_(True)
        self.hooks = [Hook(module, mu) for module in norms(teacher)]
        self.meta = torch.optim.Adam(self.g.parameters(), lr * steps, betas=(0.5, 0.999))

    def synthesise(self, z, labels):
        adv, bn, oh = self.weights
        z = z.clone().requires_grad_()
        fast = copy.deepcopy(self.g)
        optimizer = torch.optim.Adam(
            [{"params": fast.parameters(), "lr": self.lrs[0]}, {"params": [z], "lr": self.lrs[1]}], betas=(0.5, 0.999)
        )
        best, kept = float("inf"), None
        for i in range(self.steps):
            x = fast(z)
            x_aug = self.normalize(self.augment(x))
            t = self.t(x_aug)
            loss = bn * sum(h.r for h in self.hooks) + oh * F.cross_entropy(t, labels)
            if adv:
                loss = loss + adv * adversarial(t, self.s(x_aug))
            if loss.item() < best:
                best, kept = loss.item(), x.detach().clone()
            optimizer.zero_grad()
            loss.backward()
            if i == 0:
                self.meta.zero_grad()
            for p, q in zip(self.g.parameters(), fast.parameters(), strict=True):
                p.grad = q.grad.clone() if p.grad is None else p.grad + q.grad
            if i == self.steps - 1:
                self.meta.step()
            optimizer.step()
        for h in self.hooks:
            h.update()
        return kept, loss.item()


class NaiveCMI:
    """One synthesis batch of CMI; the bank is two lists of rows on the CPU."""

    def __init__(self, teacher, student, generator, head, normalize, views, steps, lr, tau, weights, negatives):
        self.t, self.s, self.g, self.h = teacher.eval(), student.eval(), generator.train(), head
        self.normalize, (self.globally, self.locally) = normalize, views
        self.steps, self.lr, self.tau, self.weights, self.negatives = steps, lr, tau, weights, negatives
        for net in (self.t, self.s, self.g, self.h):
            net.requires_grad_(True)
        self.hooks = [Hook(module) for module in norms(teacher)]
        self.head_optimizer = torch.optim.Adam(head.parameters(), lr)
        self.bank = []

    def features(self):
        return torch.cat([h.feature for h in self.hooks], 1)

    def synthesise(self, z, labels):
        adv, bn, oh, cr = self.weights
        z = z.clone().requires_grad_()
        optimizer = torch.optim.Adam([{"params": self.g.parameters()}, {"params": [z]}], self.lr, betas=(0.5, 0.999))
        best, kept = float("inf"), None
        for _ in range(self.steps):
            x = self.g(z)
            x_global = self.normalize(self.globally(x))
            t = self.t(x_global)
            loss_bn = sum(h.r for h in self.hooks)
            f_global = self.features()
            x_local = self.normalize(self.locally(x))
            self.t(x_local)
            f_local = self.features()
            loss = bn * loss_bn + oh * F.cross_entropy(t, labels)
            if self.bank:
                rows = torch.cat(self.bank)
                rows = rows[torch.randperm(len(rows))[: self.negatives]].to(x)
                cached_local, cached_global = rows.chunk(2, 1)
                a, p = torch.cat([f_local, cached_local]), torch.cat([f_global, cached_global])
            else:
                torch.randperm(0)
                a, p = f_local, f_global
            p = self.h(p)
            logits = self.h(a) @ p.detach().T / self.tau
            each = F.cross_entropy(logits, torch.arange(len(a)), reduction="none")
            loss = loss + cr * each[: len(x)].mean()
            if self.bank:
                loss = loss + cr * each[len(x) :].mean()
            if adv:
                loss = loss + adv * adversarial(t, self.s(x_global))
            if loss.item() < best:
                best, kept = loss.item(), (x.detach().clone(), torch.cat([f_local, f_global], 1).detach().cpu())
            optimizer.zero_grad()
            self.head_optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.head_optimizer.step()
        self.bank.append(kept[1])
        return kept[0], loss.item()
