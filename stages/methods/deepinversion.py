"""DeepInversion: Dreaming to Distill (Yin et al., CVPR 2020, arXiv:1912.08795), in CMI's benchmark form."""

import torch
from torch import Tensor

from stages.losses import distillation, synthesis
from stages.methods.bases.inversion import Inversion
from stages.methods.blocks.guidance import Guidance, Guided, Lowest
from stages.methods.blocks.rank_statistics import settle, union_moments
from stages.methods.blocks.terms import values, weighted
from stages.networks.normalize import per_channel
from stages.support.sections import Positive, Rate, Weight


class Method(Inversion):
    """Pixels descend T's cross-entropy for given classes, held to T's batch-norm statistics; S says what it knows already.

    Where every pixel has a class, T's own answers are what it should be surer of.
    """

    class Params(Inversion.Params, Guided):
        """`reference` restores the released divergence: reversed, on clamped predictions."""

        steps: Positive = 1000
        lr: Rate = 0.1
        adversarial: Weight = 1.0
        bn: Weight = 10.0
        confidence: Weight = 1.0
        variation: Weight = 0.001
        reference: bool = False

    params: Params

    def build(self) -> None:
        """S is far by the Jensen-Shannon divergence, at temperature 3."""
        super().build()
        divergence = distillation.reversed_jensen_shannon if self.params.reference else distillation.jensen_shannon
        self.guidance = Guidance(self.teacher, self.params, divergence)

    def synthesise(self, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Adam on the pixels, from noise, in T's normalised units; clipped to [0, 1] after each step."""
        setting, p, lowest = self.setting, self.params, Lowest()
        pixels = torch.randn(self.share, *setting.form.shape, device=setting.runtime.device, requires_grad=True)
        mean, std = (per_channel(values, pixels) for values in (setting.mean, setting.std))
        optimizer = torch.optim.Adam([pixels], p.lr, betas=(0.5, 0.99), fused=True)
        for _ in range(p.steps):
            images = pixels * std + mean
            view = self._jitter(images)
            teacher, heard = self.guidance.norms.ask(view)
            terms = self.guidance.terms(view, teacher, labels, union_moments(heard, setting.runtime), self.asked)
            terms["variation"] = (p.variation, synthesis.total_variation(pixels))
            loss = weighted(terms)
            lowest.offer(setting.runtime.mean(loss), images)
            optimizer.zero_grad()
            loss.backward()
            settle(setting.runtime, [], [pixels])
            optimizer.step()
            with torch.no_grad():
                pixels.clamp_(-mean / std, (1 - mean) / std)
        return lowest.kept[0].clamp(0, 1), values(terms)

    def _jitter(self, images: Tensor) -> Tensor:
        """One random circular shift, by up to 1/8 of each side, of the whole batch; flipped with probability 1/2 where T may."""
        form = self.setting.form
        down, across = (_upto(side // 8) for side in (form.height, form.width))
        images = images.roll((down, across), (2, 3))
        return images.flip(3) if self.schedule.augment.flip and torch.rand(()) < 0.5 else images


def _upto(reach: int) -> int:
    return int(torch.randint(-reach, reach + 1, (1,)))
