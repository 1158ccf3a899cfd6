"""AuG-KD's networks around its generator: an image's place in the latent space, and the way from there to an anchor."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _down(width_in: int, width_out: int) -> list[nn.Module]:
    return [
        nn.Upsample(scale_factor=0.5, mode="nearest"),
        nn.Conv2d(width_in, width_out, 3, 1, 1),
        nn.BatchNorm2d(width_out),
        nn.LeakyReLU(0.2, inplace=True),
    ]


class Encoder(nn.Module):
    """Images (B, C, H, W) in [0, 1] and their classes (B,) -> mean and log variance of their latents, (B, latent) each.

    H and W are multiples of 4. The log variance is clamped to [-5, 3].
    """

    def __init__(self, latent: int, classes: int, shape: tuple[int, int, int], features: int = 64):
        super().__init__()
        channels, height, width = shape
        self.classes = classes
        self.pixels = nn.Conv2d(channels, channels, 1)
        self.plane = nn.Sequential(nn.Linear(classes, height * width), nn.Unflatten(1, (1, height, width)))
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels + 1),
            *_down(channels + 1, features),
            *_down(features, 2 * features),
            nn.Conv2d(2 * features, 4 * features, 3, 1, 1),
            nn.BatchNorm2d(4 * features),
            nn.Tanh(),
            nn.Flatten(),
        )
        self.mean, self.log_variance = (nn.Linear(4 * features * (height // 4) * (width // 4), latent) for _ in range(2))
        _narrow(self)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        plane = self.plane(F.one_hot(labels, self.classes).to(images.dtype))
        features = self.layers(torch.cat([self.pixels(images), plane], 1))
        return self.mean(features), self.log_variance(features).clamp(-5, 3)


class Anchor(nn.Module):
    """Latents z (B, latent) and classes (B,) -> latents z' near which the teacher is sure, and the mask m in (0, 1) of rewriting.

    z' = (1 - m) z + m psi(m z): where a class's mask is 0, its latents stay.
    """

    def __init__(self, latent: int, classes: int):
        super().__init__()
        self.classes = classes
        self.mask = nn.Sequential(nn.Linear(classes, latent), nn.ReLU(), nn.Linear(latent, latent), nn.Sigmoid())
        widths, convolutions = (1, 4, 8, 4), []
        for width_in, width_out in itertools.pairwise(widths):
            convolutions += [nn.Conv1d(width_in, width_out, 3, 1, 1), nn.BatchNorm1d(width_out), nn.LeakyReLU(0.2, inplace=True)]
        self.rewrite = nn.Sequential(nn.Unflatten(1, (1, latent)), *convolutions, nn.Flatten(), nn.Linear(4 * latent, latent))
        _narrow(self)

    def masks(self, labels: Tensor) -> Tensor:
        """The masks (B, latent) of classes (B,)."""
        return self.mask(F.one_hot(labels, self.classes).to(torch.get_default_dtype()))

    def forward(self, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        m = self.masks(labels).to(z.dtype)
        return (1 - m) * z + m * self.rewrite(m * z), m


def _narrow(net: nn.Module) -> None:
    """Linear layers start at U(-0.08, 0.08), without offsets, as the authors' do."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -0.08, 0.08)
            nn.init.zeros_(module.bias)
