"""CMI: Contrastive Model Inversion (Fang et al., IJCAI 2021, arXiv:2105.08584)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from stages.datasets.images import augmented
from stages.families.inversion import Inversion, Lowest
from stages.families.ring import Ring
from stages.families.terms import Terms, values, weighted
from stages.families.views import resized_crop
from stages.losses import synthesis
from stages.losses.precision import full
from stages.networks.generator import generator_for, redraw
from stages.networks.projection import Projection
from stages.networks.taps import moments, pooled
from stages.support.sections import Positive, Rate, Weight


class Method(Inversion):
    """A fresh generator and its latents are optimised for each batch; a contrastive term pushes it away from earlier batches."""

    class Params(Inversion.Params):
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

    def build(self) -> None:
        """The generator, the projection head, which lasts, and the bank of features."""
        super().build()
        setting, p = self.setting, self.params
        width = sum(norm.num_features for norm in self.norms)
        self.generator = setting.runtime.place(generator_for(p.latent, setting.form.shape, p.generator_width, narrow=True))
        head = setting.runtime.place(Projection(width))
        self.head = self.player("head", head, torch.optim.Adam(head.parameters(), p.lr, fused=True), constant=True)
        feature = ((width,), torch.half)  # half precision: the bank of a WRN-40-2 is 443 MB
        self.bank = Ring(p.bank, {"local": feature, "views": feature}, setting.runtime, f"method.{self.name}.bank")
        self.memories["bank"] = self.bank

    def synthesise(self, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Adam on G and z together; the features of the kept images join the bank."""
        p, lowest = self.params, Lowest()
        redraw(self.generator)
        z = torch.randn(len(labels), p.latent, device=labels.device, requires_grad=True)
        optimizer = torch.optim.Adam([*self.generator.parameters(), z], p.lr, betas=(0.5, 0.999), fused=True)
        for _ in range(p.steps):
            images = full(self.generator(z))
            terms, features = self.terms(images, labels)
            loss = weighted(terms)
            lowest.offer(loss, images, *features)
            optimizer.zero_grad()
            with self.head.turn():
                self.head.update(loss)
            optimizer.step()
        images, local, views = lowest.kept
        self.bank.append(local=local, views=views)
        return images, values(terms)

    def terms(self, images: Tensor, labels: Tensor) -> tuple[Terms, tuple[Tensor, Tensor]]:
        """Loss terms of one step, and the features (B, F) of the local and of the global views."""
        p, augment = self.params, self.schedule.augment
        view = augmented(images, augment)
        teacher, heard = self.look(view)
        terms = self.guidance(view, teacher, labels, moments(heard))
        views = pooled(heard)
        local = pooled(self.look(resized_crop(images, flip=augment.flip))[1])
        terms["contrast"] = (p.contrast, self._contrast(local, views))
        return terms, (local, views)

    def _contrast(self, local: Tensor, views: Tensor) -> Tensor:
        rows = self.bank.draw(self.params.negatives, distinct=True)
        remembered = {name: self.bank.rows[name][rows].to(local.dtype) for name in ("local", "views")}
        with torch.no_grad():
            targets = self.head(torch.cat([views, remembered["views"]]))
        with self.head.turn():
            anchors = self.head(torch.cat([local, remembered["local"]]))
        return synthesis.contrast(anchors, targets, self.params.contrast_tau, len(local))
