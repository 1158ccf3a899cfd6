"""AuG-KD's way from an image to its anchor and back: encoder E, anchor A and generator G, all in eval mode here."""

import torch
from torch import Tensor

from stages.engine.players import Player, in_eval
from stages.losses.precision import full
from stages.networks.encoder import Anchor
from stages.support.errors import UserError

COLLAPSED = 0.01  # a mean mask below this leaves every latent as it is


class Latents:
    """The latents z of images, their anchors z', and the images that G makes of both. Images are (B, C, H, W) in [0, 1]."""

    def __init__(self, encoder: Player, anchor: Player | None, generator: Player):
        self.encoder, self.anchor, self.generator = encoder, anchor, generator

    @torch.no_grad()
    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean latents (B, latent) of images with classes (B,); nothing is drawn."""
        with in_eval(self.encoder.net):
            return full(self.encoder.net(images, labels)[0])

    def decode(self, z: Tensor) -> Tensor:
        """G(z), with a gradient to z."""
        with in_eval(self.generator.net):
            return full(self.generator(z))

    @torch.no_grad()
    def mixtures(self, images: Tensor, labels: Tensor, f: float) -> tuple[Tensor, Tensor]:
        """(1 - f) G((1 - f) z' + f z) + f x of images x with classes (B,), and the mask (B, latent); without A, z' is z."""
        if f == 1:
            return images, images.new_zeros(len(images), 1)
        z = self.encode(images, labels)
        anchored, mask = z, torch.zeros_like(z)
        if self.anchor is not None:
            with in_eval(self.anchor.net):
                anchored, mask = self.anchor.net(z, labels)
        return (1 - f) * self.decode((1 - f) * anchored + f * z) + f * images, mask

    def check_masks(self, classes: int) -> None:
        """Raise UserError where A's mask collapsed."""
        if self.anchor is None:
            return
        net = self.anchor.net
        assert isinstance(net, Anchor)
        mask = net.masks(torch.arange(classes, device=next(net.parameters()).device)).mean().item()
        if mask < COLLAPSED:
            raise UserError(
                f"augkd: the anchor's mask collapsed to a mean of {mask:.4f}, so no latent is rewritten; raise "
                "method.augkd.invariance or anchor_steps"
            )


def ramp(progress: float, a: float, b: float) -> float:
    """The real image's part: from `b` at 0 evenly to 1 at `a` of the stage and after."""
    return b + (1 - b) * min(progress / a, 1.0)
