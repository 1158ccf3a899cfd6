"""Images decoded from what T remembers of its training set: Impression Space (Fang et al. 2020, arXiv:2007.05441) without data.

The paper decodes impressions of images that one has. Batch normalisation has kept those of images that one has not.
"""

from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from stages.kinds import IMAGES, ONE_LABEL
from stages.losses import impressions
from stages.losses.precision import full
from stages.methods.bases.inversion import Inversion
from stages.methods.bases.method import POOL
from stages.methods.blocks.impression_decoder import Decoder
from stages.networks.taps import batch_norms
from stages.networks.template import Impression, Template
from stages.support.sections import Positive, Rate, Weight
from stages.support.seeds import shuffled

SHIFT = 2  # pixels
MEASURED = 1000  # images of the pool that say how images differ from one another


class Method(Inversion):
    """Each image is decoded from an impression of its own, drawn around that of T's training set, and is sure of a given class.

    Of a layer whose running mean and variance are m and v, an image's means are N(m, kappa v) and its deviations the root of
    (1 - kappa) v. kappa, the share of the variance that lies between images, is measured on the pool.
    """

    class Params(Inversion.Params):
        """`confidence` weighs the cross-entropy of T's answer and the given class, `variation` that of neighbouring pixels.

        `spread` is a factor of kappa; with 0 all images have one aim.
        """

        steps: Positive = 1000
        lr: Rate = 0.1
        noise: Rate = 1.0
        confidence: Weight = 1.0
        spread: Annotated[float, Field(ge=0, le=1)] = 1.0
        variation: Weight = 0.01

    params: Params
    of_kind = frozenset({IMAGES, ONE_LABEL})
    sees = frozenset({POOL})

    def build(self) -> None:
        """What T remembers, and how its layers' responses to images of the pool vary."""
        super().build()
        setting, p = self.setting, self.params
        pool = setting.data[POOL]
        norms = [(norm, False) for norm in batch_norms(self.teacher)]
        template = Template.of(self.teacher, torch.zeros(1, *setting.kind.form.shape), norms)
        varied = template.encoded(setting.kind.shown(pool.subset(shuffled(len(pool))[:MEASURED]), 64))
        template = template.scaled_by(varied)
        self.kappa = [p.spread * impressions.between(layer) for layer in varied.layers]
        self.remembered = template.remembered()
        self.decode = Decoder(template, setting.mean, setting.std, p.lr, p.noise, p.steps, p.variation, SHIFT)

    def synthesise(self, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Decode a batch of impressions, each to its class."""
        assert labels is not None
        weight = self.params.confidence
        images, first, last = self.decode(
            self.aims(len(labels)), also=lambda logits, _: weight * F.cross_entropy(full(logits), labels, reduction="none")
        )
        return images, {"impression_first": first.mean(), "impression": last.mean()}

    def aims(self, n: int) -> Impression:
        """n impressions around that of the training set."""
        layers = []
        for (mean, deviation), kappa in zip(self.remembered.layers, self.kappa, strict=True):
            noise = torch.randn(n, *mean.shape[1:]).to(mean)
            layers.append((mean + kappa**0.5 * deviation * noise, ((1 - kappa) ** 0.5 * deviation).expand(n, -1, -1, -1)))
        return replace(self.remembered, layers=tuple(layers))
