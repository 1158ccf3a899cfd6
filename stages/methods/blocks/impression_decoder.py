"""From impressions back to images: decoding and translation (arXiv:2007.05441). The template stands still, the pixels move."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.losses import impressions
from stages.networks.normalize import per_channel
from stages.networks.template import Impression, Template
from stages.support.progress import progress

SMALL, RANGE = 1e-4, 1.0  # weights of the mean square of the pixels, and of how far they are out of [0, 1]
Also = Callable[[Tensor, Tensor], Tensor]  # of logits (n, K) and `_middle` responses (n, C, H, W): what else to descend


@dataclass(frozen=True)
class Decoder:
    """Finds images by their impressions, in units in which the training images have mean 0 and deviation 1.

    By Adam on the pixels, whose rate `lr` falls along a cosine. `mean` and `std` are those images' in [0, 1], one a channel;
    `noise` is the deviation of what images begin as; `variation` weighs that of the pixels. At each step the template sees the
    images moved by up to `shift` pixels each way, all alike, lest it be one raster that it answers to. Without `steps`,
    `variation` and `shift` these are as the size of the images wants them.
    """

    template: Template
    mean: Sequence[float]
    std: Sequence[float]
    lr: float = 0.1
    noise: float = 0.1
    steps: int = 0
    variation: float | None = None
    shift: int | None = None

    def __call__(
        self, target: Impression, start: Tensor | None = None, also: Also | None = None, says: str = ""
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Images (n, C, H, W) in [0, 1] of n targets, with their distance D (n,) at the first and at the last step.

        They begin as noise, or as `start`, images in [0, 1]. Losses are summed over images, so that none depends on another; the
        last step counts, not the best. With `says` there is a progress bar.
        """
        template, n = self.template, len(target)
        device, kind = template.device, torch.get_default_dtype()
        mean, std = (per_channel(values, torch.empty(0, device=device, dtype=kind)) for values in (self.mean, self.std))
        size = float(max(template.shape[1:])) / 32
        steps = self.steps or round(200 * max(1.0, size) ** 1.18)  # 200 for 32 pixels, 2,000 for 224
        weight = 0.01 * size**-1.18 if self.variation is None else self.variation
        shift = (2 if size >= 2 else 0) if self.shift is None else self.shift
        noise = self.noise * torch.randn(n, *template.shape).to(device, kind)
        pixels = (noise if start is None else (start.to(device, kind) - mean) / std).requires_grad_()
        optimizer = torch.optim.Adam([pixels], self.lr, fused=True)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        distances = torch.zeros(0)
        for step in progress(range(steps), says) if says else range(steps):
            logits, responses = template.respond(_moved(pixels * std + mean, shift))
            distances = template.impression(responses, pixels.shape[2:]).distance(target)
            outside = F.relu(-pixels - mean / std) + F.relu(pixels - (1 - mean) / std)
            loss = distances + weight * impressions.variation(pixels)
            loss = loss + SMALL * pixels.square().mean((1, 2, 3)) + RANGE * outside.mean((1, 2, 3))
            if also:
                loss = loss + also(logits, _middle(responses))
            if step == 0:
                before = distances.detach()
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            rate.step()
        return (pixels.detach() * std + mean).clamp(0, 1), before, distances.detach()


def _middle(responses: Sequence[Tensor]) -> Tensor:
    """Return the second layer's statistics, where there are two layers."""
    return responses[min(1, len(responses) - 1)]


def _moved(images: Tensor, reach: int) -> Tensor:
    return images.roll(torch.randint(-reach, reach + 1, (2,)).tolist(), (2, 3)) if reach else images


def translate(
    decoder: Decoder, images: Tensor, source: Impression, target: Impression, shift: bool = True, content: float = 1.0
) -> Tensor:
    """Images (n, C, H, W) in [0, 1] of one set on their way to another, from themselves: neither pairs nor a generator.

    Their impressions are moved as the set `source` is to `target`, or without `shift` are to be the target's; `content` holds the
    responses of the second layer where they are.
    """
    template = decoder.template
    with torch.no_grad():
        responses = template.respond(images)[1]
        here = template.impression(responses, images.shape[2:])
        middle = _middle(responses)
    aim = here.shifted(source, target) if shift else target.expand(len(images))
    near: Also = lambda _, now: content * (now - middle).square().mean((1, 2, 3))  # noqa: E731
    return replace(decoder, shift=0)(aim, images, near if content else None)[0]  # places are compared with places
