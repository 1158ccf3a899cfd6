"""MosaicKD: Mosaicking to Distill (Fang et al., NeurIPS 2021, arXiv:2110.15094)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from torch import Tensor, nn

from stages.engine.players import Player
from stages.losses import distillation, synthesis
from stages.methods.bases.game import Game
from stages.methods.bases.method import POOL, Seen, Tempered, seen
from stages.methods.blocks.terms import Terms, values, weighted
from stages.networks.discriminator import ImageDiscriminator, PatchDiscriminator
from stages.networks.normalize import Normalized
from stages.support.sections import Positive, Weight


class Method(Game):
    """Four-player game: G mosaics patches into images, D judges the patches, S learns, T guides and never changes."""

    class Params(Game.Params, Tempered):
        """The weights of the paper's terms, with the values of its reproduction commands, `tau` too.

        D judges patches of `patch` pixels a side, every `patch_stride`-th of them, or the whole `image`. Without `ood_stream` S
        sees synthetic images alone.
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

    params: Params
    sees = frozenset({POOL})
    constant = False

    def build(self) -> None:
        """G and D with Adam, and two independent shuffles of the pool: bare for D, augmented for S."""
        super().build()
        self.discriminator = self.make_discriminator() if self.params.local else None
        self.real = self.stream("real", self.setting.data[POOL], self.schedule.batch)
        self.ood = self.stream("ood", self.setting.data[POOL], self.schedule.batch, self.schedule.of_pool)

    def step(self) -> dict[str, Tensor]:
        """One outer iteration: D and G discriminate and generate once, then S distils k times."""
        p = self.params
        with self.cost.timed("synthesis"):
            with self.generator.turn():
                fake = self.generate(self.batch)  # x = G(z), z ~ N(0, 1)

            # Discriminate: D tells real patches from G's. Real and fake images have batch statistics of their own.
            scalars: dict[str, Tensor] = {}
            if self.discriminator is not None:
                real = self.real.next()["input"]
                with self.discriminator.turn():
                    loss = synthesis.patch_discrimination(real=self.discriminator(real), fake=self.discriminator(fake.detach()))
                    self.discriminator.update(p.local * loss)
                scalars = {"D": loss.detach()}

            # Generate: G descends what T, S and the updated D say of the same images.
            terms = self.terms(fake)
            with self.generator.turn():
                self.generator.update(weighted(terms))

        # Distil: S descends KL(T || S) on B fresh synthetic images and B of the pool.
        with self.cost.timed("distillation"):
            learned = self.imitate([self.student_batch() for _ in range(self.left(p.student_steps))])
        return {**scalars, **values(terms), "S": learned}

    def terms(self, fake: Tensor) -> Terms:
        """L_G of G's images (B, C, H, W): patch realism (eq. 3), entropy (4), opposition (7), the appendix's balance."""
        p = self.params
        teacher = self.ask(fake)
        with self.watching():
            student = self.student(fake)
        terms: Terms = {
            "adversarial": (p.adversarial, -distillation.kl_divergence(teacher, student)),  # eq. 7: where S is far from T
            "align": (p.align, distillation.entropy(teacher).mean()),  # eq. 4: where T is sure
            "balance": (p.balance, distillation.balance(self.setting.runtime.union(teacher))),
        }
        if self.discriminator is not None:
            terms["local"] = (p.local, synthesis.patch_realism(self.discriminator(fake)))  # eq. 3: where D takes patches for real
        return terms

    def ask(self, fake: Tensor) -> Tensor:
        """T's logits of G's images, with gradients to them."""
        return self.teacher(fake)

    def student_batch(self) -> list[Seen]:
        """What S sees in one step: fresh images of G, and as many of the pool."""
        return [*super().student_batch(), *([self.foreign()] if self.params.ood_stream else [])]

    def foreign(self) -> Seen:
        """B images of the pool."""
        return seen(self.ood.next())

    def watching(self) -> AbstractContextManager[None]:
        """How S looks at what G is judged by: in train mode, while its running statistics stand still."""
        return nullcontext()

    def make_discriminator(self) -> Player:
        """D, which normalises images as T does."""
        setting, p, shape = self.setting, self.params, self.setting.form.shape
        if p.discriminator == "image":
            net: nn.Module = ImageDiscriminator(shape, p.discriminator_width)
        else:
            # The released networks for more than 32 px have no bias in the first layer.
            net = PatchDiscriminator(shape[0], p.patch, p.discriminator_width, p.patch_stride, max(shape[1:]) <= 32)
        return self.adam("discriminator", Normalized(net, setting.mean, setting.std))
