"""MosaicKD: Mosaicking to Distill (Fang et al., NeurIPS 2021, arXiv:2110.15094)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from stages import losses
from stages.datasets.images import channel_statistics
from stages.engine.players import Player
from stages.methods import Seen
from stages.networks import Normalized
from stages.networks.discriminator import ImageDiscriminator, PatchDiscriminator
from stages.params import Positive, Weight
from stages.synthesis.game import Game
from stages.synthesis.terms import Terms


class Method(Game):
    """Four-player game: G mosaics patches into images, D judges the patches, S learns, T guides and never changes."""

    class Params(Game.Params):
        """The paper's symbols with the values of its reproduction commands.

        `reference` restores two slips of the released code: the student's OOD stream is normalised with the OOD set's own
        statistics, and generator steps move the student's running statistics.
        """

        adversarial: Weight = 1.0
        align: Weight = 1.0
        local: Weight = 1.0
        balance: Weight = 10.0
        latent: Positive = 100
        discriminator: Literal["patch", "image"] = "patch"
        patch: Literal[1, 2, 4, 10, 18, 22, 46] = 10
        patch_stride: Positive = 1
        discriminator_width: Positive = 128
        ood_stream: bool = True
        reference: bool = False

    params: Params
    constant = False

    def build(self) -> None:
        """G and D with Adam, and two independent shuffles of the pool: bare for D, augmented for S."""
        super().build()
        setting, p, batch = self.setting, self.params, self.setting.schedule.batch
        assert setting.pool is not None
        self.discriminator = self._discriminator() if p.local else None
        self.real = self.stream("real", setting.pool, batch)
        if p.reference:
            statistics = (torch.tensor(setting.mean), torch.tensor(setting.std), *channel_statistics(setting.pool))
            placed = (values.view(-1, 1, 1).to(setting.runtime.device) for values in statistics)
            self.own_mean, self.own_std, self.pool_mean, self.pool_std = placed
        logits = None if p.reference else setting.pool_logits
        self.ood = self.stream("ood", setting.pool, batch, setting.schedule.augment, logits)

    def before_generator(self, fake: Tensor) -> dict[str, Tensor]:
        """D learns to tell real patches from G's; G is then judged by the updated D."""
        if self.discriminator is None:
            return {}
        real = self.real.next().images
        with self.discriminator.turn():
            # Two forwards: real and fake images have batch statistics of their own.
            loss = losses.patch_discrimination(real=self.discriminator(real), fake=self.discriminator(fake))
            self.discriminator.update(self.params.local * loss)
        return {"D": loss.detach()}

    def watching(self) -> AbstractContextManager[None]:
        """S stays in train mode; its running statistics stand still, but for `reference`."""
        return self.student.turn() if self.params.reference else nullcontext()

    def terms(self, fake: Tensor) -> Terms:
        """Adversarial, alignment, balance and local terms."""
        p = self.params
        with self.watching():
            teacher, student = self.teacher(fake), self.student(fake)
        terms = {
            "adversarial": (p.adversarial, -losses.kl_divergence(teacher, student)),
            "align": (p.align, losses.entropy(teacher).mean()),
            "balance": (p.balance, losses.balance(teacher)),
        }
        if self.discriminator is not None:
            terms["local"] = (p.local, losses.patch_realism(self.discriminator(fake)))
        return terms

    def student_batch(self) -> list[Seen]:
        """B fresh synthetic images and B of the pool."""
        seen = super().student_batch()
        if self.params.ood_stream:
            batch = self.ood.next()
            seen.append((self._foreign(batch.images) if self.params.reference else batch.images, batch.logits))
        return seen

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
        return self.adam("discriminator", Normalized(net, setting.mean, setting.std))
