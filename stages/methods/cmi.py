"""CMI: Contrastive Model Inversion (Fang et al., IJCAI 2021, arXiv:2105.08584)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from stages.datasets.images import augmented
from stages.engine.players import Player, descend, turns
from stages.kinds import IMAGES, ONE_LABEL
from stages.losses import synthesis
from stages.losses.precision import full
from stages.methods.bases.inversion import Inversion
from stages.methods.blocks.guidance import Guidance, Guided, Lowest
from stages.methods.blocks.rank_statistics import settle, union_moments
from stages.methods.blocks.ring_buffer import Ring
from stages.methods.blocks.terms import Terms, values, weighted
from stages.methods.blocks.views import resized_crop
from stages.networks.generator import generator_for, redraw
from stages.networks.projection import Projection
from stages.networks.taps import pooled
from stages.support.sections import Positive, Rate, Weight


class Method(Inversion):
    """A fresh generator and its latents are optimised for each batch; a contrastive term pushes it away from earlier batches.

    With `contrast` 0 there is neither a local view nor a bank.
    """

    class Params(Inversion.Params, Guided):
        """`contrast` weighs the contrastive term at temperature `contrast_tau`; the bank holds features of `bank` images."""

        steps: Positive = 200
        latent: Positive = 256
        generator_width: Positive = 64
        lr: Rate = 1e-3
        adversarial: Weight = 0.5
        bn: Weight = 1.0
        confidence: Weight = 1.0
        contrast: Weight = 0.8
        contrast_tau: Rate = 0.1
        bank: Annotated[int, Field(ge=2)] = 40960
        negatives: Positive = 4096

    params: Params
    of_kind = frozenset({IMAGES, ONE_LABEL})

    def build(self) -> None:
        """The generator and, for the contrast, the projection head, which lasts, and the bank of features."""
        super().build()
        setting, p = self.setting, self.params
        self.guidance = Guidance(self.teacher, p)
        self.generator = setting.runtime.place(generator_for(p.latent, setting.form.shape, p.generator_width, narrow=True))
        self.heads: list[Player] = []
        if not p.contrast:
            return
        width = sum(norm.num_features for norm in self.guidance.norms.layers)
        head = setting.runtime.place(Projection(width))
        adam = torch.optim.Adam(head.parameters(), p.lr, fused=True)
        self.heads = [self.player("head", head, adam, falling="constant")]
        feature = ((width,), torch.half)  # half precision: the bank of a WRN-40-2 is 443 MB
        self.bank = Ring(p.bank, {"local": feature, "views": feature}, setting.runtime, f"method.{self.name}.bank")
        self.memories["bank"] = self.bank

    def synthesise(self, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Adam on G and z together; the features of the kept images join the bank."""
        p, runtime, lowest = self.params, self.setting.runtime, Lowest()
        weights = list(self.generator.parameters())
        redraw(self.generator)
        runtime.follow_first_([weight.data for weight in weights])
        z = torch.randn(self.share, p.latent, device=runtime.device, requires_grad=True)
        optimizer = torch.optim.Adam([*weights, z], p.lr, betas=(0.5, 0.999), fused=True)
        for _ in range(p.steps):
            images = full(self.generator(z))
            terms, features = self.terms(images, labels)
            loss = weighted(terms)
            lowest.offer(runtime.mean(loss), images, *features)
            optimizer.zero_grad()
            with turns(self.heads):
                descend(loss, *self.heads)
            settle(runtime, weights, [z])
            optimizer.step()
        images, *features = lowest.kept
        if features:
            self.bank.append(local=features[0], views=features[1])
        return images, values(terms)

    def terms(self, images: Tensor, labels: Tensor | None) -> tuple[Terms, list[Tensor]]:
        """Loss terms of one step, and the features (B, F) of the local and of the global views where they are compared."""
        p, augment = self.params, self.schedule.augment
        view = augmented(images, augment)
        teacher, heard = self.guidance.norms.ask(view)
        terms = self.guidance.terms(view, teacher, labels, union_moments(heard, self.setting.runtime), self.asked)
        if not p.contrast:
            return terms, []
        views = pooled(heard)
        local = pooled(self.guidance.norms.ask(resized_crop(images, flip=augment.flip))[1])
        terms["contrast"] = (p.contrast, self._contrast(local, views))
        return terms, [local, views]

    def _contrast(self, local: Tensor, views: Tensor) -> Tensor:
        """The contrastive loss of all ranks' images and of remembered ones."""
        local, views = self.setting.runtime.union(local), self.setting.runtime.union(views)
        rows = self.bank.draw(self.params.negatives)
        remembered = {name: self.bank.rows[name][rows].to(local.dtype) for name in ("local", "views")}
        (head,) = self.heads
        with torch.no_grad():
            targets = head(torch.cat([views, remembered["views"]]))
        with head.turn():
            anchors = head(torch.cat([local, remembered["local"]]))
        return synthesis.contrast(anchors, targets, self.params.contrast_tau, len(local))
