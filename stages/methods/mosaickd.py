"""MosaicKD: Mosaicking to Distill (Fang et al., NeurIPS 2021, arXiv:2110.15094)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from stages.datasets.images import to_uint8, to_unit
from stages.engine.players import Player
from stages.losses import distillation, synthesis
from stages.methods.bases.game import Game
from stages.methods.bases.method import POOL, Seen, seen
from stages.methods.blocks.composer import Composer, Mixing
from stages.methods.blocks.replay import Replay
from stages.methods.blocks.terms import Terms
from stages.networks.discriminator import ImageDiscriminator, PatchDiscriminator
from stages.networks.normalize import Normalized
from stages.support.sections import Positive, Rate, Weight

SHARES = 1024  # images of the pool, by which the shares of classes are measured
Constants = Annotated[list[Rate], Field(min_length=1, max_length=3)]


class Method(Game):
    """Four-player game: G mosaics patches into images, D judges the patches, S learns, T guides and never changes."""

    class Params(Game.Params):
        """The paper's symbols with the values of its reproduction commands.

        `reference` restores two slips of the released code: the student's OOD stream is normalised with constants of the OOD
        set, `reference_mean` and `reference_std` (one, or one a channel), and generator steps move the student's running
        statistics. The student's OOD stream is the pool, or images composed of its tiles, or none. Of the synthetic images in its
        batch one in `reuse` is new, and the rest are among the last `ring`, each with what T said of it once. The balance term
        evens the classes, or (`balance_target`) brings them to the shares that T sees in the pool: scenes are not even.
        """

        adversarial: Weight = 1.0
        align: Weight = 1.0
        local: Weight = 1.0
        balance: Weight = 10.0
        balance_target: Literal["even", "pool"] = "even"
        latent: Positive = 100
        discriminator: Literal["patch", "image"] = "patch"
        patch: Literal[1, 2, 4, 10, 18, 22, 46] = 10
        patch_stride: Positive = 1
        discriminator_width: Positive = 128
        ood_stream: bool | Literal["composed"] = True
        reuse: Positive = 1
        ring: Positive = 20000
        reference: bool = False
        reference_mean: Constants = Field([0.5])
        reference_std: Constants = Field([0.5])

    params: Params
    sees = frozenset({POOL})
    constant = False

    def build(self) -> None:
        """G and D with Adam, and two independent shuffles of the pool: bare for D, augmented for S."""
        super().build()
        setting, p, batch = self.setting, self.params, self.schedule.batch
        self.discriminator = self._discriminator() if p.local else None
        self.real = self.stream("real", setting.data[POOL], batch)
        self.target = self._shares() if p.balance_target == "pool" else None
        if p.reference:
            constants = (setting.mean, setting.std, p.reference_mean, p.reference_std)
            placed = (torch.tensor(values, device=setting.runtime.device).view(-1, 1, 1) for values in constants)
            self.own_mean, self.own_std, self.pool_mean, self.pool_std = placed
        if p.reuse > 1:
            self.replay = Replay(p.ring, p.reuse, setting, f"method.{self.name}.ring")
            self.memories["replay"] = self.replay.ring
        if p.ood_stream == "composed":
            self.composer = Composer(self, "tiles", batch, Mixing())
        else:
            self.ood = self.stream("ood", setting.data[POOL], batch, self.schedule.of_pool)

    def before_generator(self, fake: Tensor) -> dict[str, Tensor]:
        """D learns to tell real patches from G's; G is then judged by the updated D."""
        if self.discriminator is None:
            return {}
        real = self.real.next()["input"]
        with self.discriminator.turn():
            # Two forwards: real and fake images have batch statistics of their own.
            loss = synthesis.patch_discrimination(real=self.discriminator(real), fake=self.discriminator(fake))
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
            "adversarial": (p.adversarial, -distillation.kl_divergence(teacher, student)),
            "align": (p.align, distillation.entropy(teacher).mean()),
            "balance": (p.balance, distillation.balance(self.setting.runtime.union(teacher), target=self.target)),
        }
        if self.discriminator is not None:
            terms["local"] = (p.local, synthesis.patch_realism(self.discriminator(fake)))
        return terms

    def student_batch(self) -> list[Seen]:
        """B fresh synthetic images and B of the pool."""
        parts = [self._replayed()] if self.params.reuse > 1 else super().student_batch()
        if self.params.ood_stream:
            images, logits = self._foreign_images()
            parts.append((self._as_reference(images), None) if self.params.reference else (images, logits))
        return parts

    def _replayed(self) -> Seen:
        """B synthetic images, of which those that are new are shown to T."""
        new = self.replay.new(self.batch)
        self.replay.look(to_uint8(self.samples(new)))
        self.cost.images += new
        rows = self.replay.draw(self.batch)
        return to_unit(rows["images"]), rows["logits"]

    def _foreign_images(self) -> Seen:
        """B images of the pool, or of its tiles."""
        return (to_unit(self.composer.next()), None) if self.params.ood_stream == "composed" else seen(self.ood.next())

    def _shares(self) -> Tensor:
        """T's mean prediction (K,) of some of the pool."""
        pool, kind = self.setting.data[POOL], self.setting.kind
        rows = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))[:SHARES]
        with self.teacher.uncounted():
            return distillation.mean_prediction(kind.answers(self.teacher, pool.subset(rows), 64)).to(self.setting.runtime.device)

    def _as_reference(self, images: Tensor) -> Tensor:
        """Images such that the teacher's normaliser gives what the OOD set's own statistics would have given."""
        return (images - self.pool_mean) / self.pool_std * self.own_std + self.own_mean

    def _discriminator(self) -> Player:
        setting, p, shape = self.setting, self.params, self.setting.form.shape
        if p.discriminator == "image":
            net: nn.Module = ImageDiscriminator(shape, p.discriminator_width)
        else:
            # The released networks for more than 32 px have no bias in the first layer.
            net = PatchDiscriminator(shape[0], p.patch, p.discriminator_width, p.patch_stride, max(shape[1:]) <= 32)
        return self.adam("discriminator", Normalized(net, setting.mean, setting.std))
