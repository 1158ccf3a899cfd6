"""Differentiable views of images (B, C, S, S), drawn anew for each image."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.losses.precision import exact


@exact
def resized_crop(images: Tensor, area: tuple[float, float] = (0.25, 1.0), flip: bool = False) -> Tensor:
    """A random part of each image with `area` of its pixels and an aspect ratio of 3/4 to 4/3, resized to the full size.

    Bilinear. Flipped left-right with probability 1/2 where `flip` says so. Draws from torch's default generator on the CPU.
    """
    n = len(images)
    share = torch.empty(n).uniform_(*area)
    ratio = torch.empty(n).uniform_(math.log(3 / 4), math.log(4 / 3)).exp()
    width, height = (share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1)
    # In affine_grid's units the image spans [-1, 1]: a part of width w has its centre within 1 - w of the middle.
    across, down = (2 * torch.rand(n) - 1) * (1 - width), (2 * torch.rand(n) - 1) * (1 - height)
    if flip:
        width = torch.where(torch.rand(n) < 0.5, -width, width)
    zero = torch.zeros(n)
    theta = torch.stack([torch.stack([width, zero, across], 1), torch.stack([zero, height, down], 1)], 1)
    grid = F.affine_grid(theta.to(images.device, images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
