"""MosaicKD as its released code runs it, written straight down: an independent reference for tests and the benchmark.

Eager, fp32, nothing frozen, nothing cached, everything recomputed; `nets` (T, S, G, D) are bare, every image is normalised
here. Only the order of images comes from the project's streams.
"""

import torch
import torch.nn.functional as F


class NaiveMosaicKD:
    def __init__(self, nets, mean, std, real, ood, batch, lr=0.1, k=5, weights=(1.0, 1.0, 10.0, 1.0)):
        teacher, student, generator, discriminator = nets
        self.t, self.s, self.g, self.d = teacher.eval(), student.train(), generator.train(), discriminator.train()
        self.real, self.ood, self.batch, self.k, self.weights = real, ood, batch, k, weights
        self.device = next(generator.parameters()).device
        for net in (self.t, self.s, self.g, self.d):
            net.requires_grad_(True)
        self.opt_s = torch.optim.SGD(self.s.parameters(), lr, momentum=0.9, weight_decay=1e-4)
        self.opt_g = torch.optim.Adam(self.g.parameters(), 1e-3, betas=(0.5, 0.999))
        self.opt_d = torch.optim.Adam(self.d.parameters(), 1e-3, betas=(0.5, 0.999))

        self.mean, self.std = (torch.tensor(values, device=self.device).view(-1, 1, 1) for values in (mean, std))

    def normalize(self, images):
        return (images - self.mean) / self.std

    def kl(self, t, s):
        return (t.softmax(1) * (t.log_softmax(1) - s.log_softmax(1))).sum(1).mean()

    def noise(self):
        return torch.randn(self.batch, 100, device=self.device)

    def step(self):
        adversarial, align, balance, local = self.weights
        fake = self.normalize(self.g(self.noise()))

        judged_fake = self.d(fake.detach())
        judged_real = self.d(self.normalize(self.real.next()["input"]))
        zeros, ones = torch.zeros_like(judged_fake), torch.ones_like(judged_real)
        loss_d = F.binary_cross_entropy_with_logits(judged_fake, zeros, reduction="sum")
        loss_d = (loss_d + F.binary_cross_entropy_with_logits(judged_real, ones, reduction="sum")) / (2 * self.batch)
        self.opt_d.zero_grad()
        (local * loss_d).backward()
        self.opt_d.step()

        t, s, d = self.t(fake), self.s(fake), self.d(fake)
        p = t.softmax(1)
        mean = p.mean(0)
        terms = {
            "adversarial": -self.kl(t, s),
            "align": -(p * p.log()).sum(1).mean(),
            "balance": (mean * mean.log2()).sum(),
            "local": F.binary_cross_entropy_with_logits(d, torch.ones_like(d), reduction="sum") / self.batch,
        }
        total = adversarial * terms["adversarial"] + align * terms["align"] + balance * terms["balance"] + local * terms["local"]
        self.opt_g.zero_grad()
        total.backward()
        self.opt_g.step()

        losses = []
        for _ in range(self.k):
            with torch.no_grad():
                synthetic = self.normalize(self.g(self.noise()))
            x = torch.cat([synthetic, self.normalize(self.ood.next()["input"])])
            with torch.no_grad():
                t = self.t(x)
            loss = self.kl(t, self.s(x))
            self.opt_s.zero_grad()
            loss.backward()
            self.opt_s.step()
            losses.append(loss.item())
        return {"D": loss_d.item(), "S": sum(losses) / self.k, **{name: term.item() for name, term in terms.items()}}
