"""MosaicKD: Mosaicking to Distill (Fang et al., NeurIPS 2021, arXiv:2110.15094)."""

import math
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from stages import losses
from stages.datasets.images import channel_statistics
from stages.engine.players import Player
from stages.methods import Method as Base
from stages.networks import Normalized
from stages.networks.discriminator import ImageDiscriminator, PatchDiscriminator
from stages.networks.generator import generator_for
from stages.params import Positive, Rate, Weight
from stages.sections import Section


class Method(Base):
    """Four-player game: G mosaics patches into images, D judges the patches, S learns, T guides and never changes."""

    class Params(Section):
        """The paper's symbols with the values of its reproduction commands.

        `reference` restores two slips of the released code: the student's OOD stream is normalised with the OOD set's own
        statistics, and generator steps move the student's running statistics.
        """

        adversarial: Weight = 1.0
        align: Weight = 1.0
        local: Weight = 1.0
        balance: Weight = 10.0
        student_steps: Positive = 5
        latent: Positive = 100
        lr: Rate = 1e-3
        discriminator: Literal["patch", "image"] = "patch"
        patch: Literal[1, 2, 4, 10, 18, 22, 46] = 10
        patch_stride: Positive = 1
        generator_width: Positive = 64
        discriminator_width: Positive = 128
        ood_stream: bool = True
        reference: bool = False

    params: Params

    def build(self) -> None:
        """G and D with Adam, and two independent shuffles of the pool: bare for D, augmented for S."""
        setting, p = self.setting, self.params
        assert setting.pool is not None
        batch = setting.schedule.images // 2  # B: a student step takes B synthetic and B OOD images
        self.batch = setting.runtime.share(batch, "the batch")
        self.generator = self._adam("generator", generator_for(p.latent, setting.size, setting.channels, p.generator_width))
        self.discriminator = self._discriminator() if p.local else None
        self.real = self.stream("real", setting.pool, batch)
        if p.reference:
            statistics = (torch.tensor(setting.mean), torch.tensor(setting.std), *channel_statistics(setting.pool))
            placed = (values.view(-1, 1, 1).to(setting.runtime.device) for values in statistics)
            self.own_mean, self.own_std, self.pool_mean, self.pool_std = placed
        logits = None if p.reference else setting.pool_logits
        self.ood = self.stream("ood", setting.pool, batch, setting.schedule.augment, logits)

    @property
    def iterations(self) -> int:
        """One outer iteration takes `student_steps` steps of the student."""
        return math.ceil(self.setting.schedule.steps / self.params.student_steps)

    def step(self) -> dict[str, Tensor]:
        """D, then G through the same images and the updated D, then k steps of S on fresh images."""
        with self.generator.turn():
            fake = self.samples(self.batch)
        scalars = {} if self.discriminator is None else {"D": self._discriminator_step(self.discriminator, fake.detach())}
        return scalars | self._generator_step(fake) | self._student_steps()

    def samples(self, count: int) -> Tensor:
        """`count` images of G from standard normal noise, normalised over this batch."""
        return losses.full(self.generator(torch.randn(count, self.params.latent, device=self.setting.runtime.device)))

    def _discriminator_step(self, discriminator: Player, fake: Tensor) -> Tensor:
        real = self.real.next().images
        with discriminator.turn():
            # Two forwards: real and fake images have batch statistics of their own.
            loss = losses.patch_discrimination(real=discriminator(real), fake=discriminator(fake))
            discriminator.update(self.params.local * loss)
        return loss.detach()

    def _generator_step(self, fake: Tensor) -> dict[str, Tensor]:
        p = self.params
        with self.student.turn() if p.reference else nullcontext():
            teacher, student = self.teacher(fake), self.student(fake)
        terms = {
            "adversarial": (p.adversarial, -losses.kl_divergence(teacher, student)),
            "align": (p.align, losses.entropy(teacher).mean()),
            "balance": (p.balance, losses.balance(teacher)),
        }
        if self.discriminator is not None:
            terms["local"] = (p.local, losses.patch_realism(self.discriminator(fake)))
        with self.generator.turn():
            self.generator.update(torch.stack([weight * term for weight, term in terms.values()]).sum())
        return {name: term.detach() for name, (_, term) in terms.items()}

    def _student_steps(self) -> dict[str, Tensor]:
        """k steps of S, each on B fresh synthetic and B OOD images. G and T stand still, so T looks at all of them at once."""
        synthetic, ood = [], []
        for _ in range(self.params.student_steps):
            synthetic.append(self.samples(self.batch))
            if self.params.ood_stream:
                batch = self.ood.next()
                ood.append(batch._replace(images=self._foreign(batch.images)) if self.params.reference else batch)
        unknown = synthetic + [batch.images for batch in ood if batch.logits is None]
        answers = list(self.teacher.logits(torch.cat(unknown)).split(self.batch))
        logits = answers + [batch.logits for batch in ood if batch.logits is not None]
        images = synthetic + [batch.images for batch in ood]
        steps = len(synthetic)
        total = torch.zeros((), device=synthetic[0].device)
        for i in range(steps):
            mine = slice(i, None, steps)  # the synthetic batch and, where there is one, the OOD batch of this step
            total += self.imitate(torch.cat(images[mine]), torch.cat(logits[mine])).detach()
        return {"S": total / steps}

    def _foreign(self, images: Tensor) -> Tensor:
        """Images such that the teacher's normaliser gives what the OOD set's own statistics would have given."""
        return (images - self.pool_mean) / self.pool_std * self.own_std + self.own_mean

    def _discriminator(self) -> Player:
        setting, p = self.setting, self.params
        if p.discriminator == "image":
            net: nn.Module = ImageDiscriminator(setting.channels, setting.size, p.discriminator_width)
        else:
            # The released networks for more than 32 px have no bias in the first layer.
            net = PatchDiscriminator(setting.channels, p.patch, p.discriminator_width, p.patch_stride, setting.size <= 32)
        return self._adam("discriminator", Normalized(net, setting.mean, setting.std))

    def _adam(self, name: str, net: nn.Module) -> Player:
        net = self.setting.runtime.place(net)
        return self.player(name, net, torch.optim.Adam(net.parameters(), self.params.lr, betas=(0.5, 0.999), fused=True))
