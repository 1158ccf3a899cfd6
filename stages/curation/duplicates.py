"""Finds images that stand in two sets, exactly or nearly: re-compressed, slightly brighter, a pixel of noise."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.datasets.examples import Examples
from stages.support.progress import progress

BITS = 6  # of 64, that may be opposite in two hashes of one image
FLAT = 4  # of 255, difference of neighbours that compression may turn round
NOISE = 2  # of 255, mean difference of the pixels of one image that was compressed twice
PAIRS = 2**13  # whose pixels are looked at in one go
ALIKE = 0.99  # correlation of the pixels of near-duplicates; two hands write a digit alike up to 0.98


def near_duplicates(images: Examples, others: Examples, what: str) -> Tensor:
    """Rows of `images` that are in `others` too, or nearly: alike in difference hash, and then pixel by pixel.

    Pixels are alike where they are equal up to noise, or in grey up to brightness and contrast.
    """
    theirs = torch.cat(list(others.batches(512)))
    codes, shades, small = difference_hash(theirs), _shades(theirs), _thumbnails(theirs)
    codes = torch.cat([codes.abs(), codes], 1).T.contiguous()
    rows, start = [], 0
    for batch in progress(images.batches(512), what, total=math.ceil(len(images) / 512)):
        hashes = difference_hash(batch)
        close = torch.cat([hashes.abs(), -hashes], 1) @ codes <= 2 * BITS  # opposite bits count 2, equal ones 0
        alike = close & (_shades(batch) @ shades.T >= ALIKE)
        found, parts = alike.any(1), _thumbnails(batch)
        for mine, other in zip(*(side.split(PAIRS) for side in (close & ~found[:, None]).nonzero().unbind(1)), strict=True):
            # Means of parts differ by no more than the parts do on average, so few pairs are left whose pixels must be looked at.
            maybe = (parts[mine] - small[other]).abs().mean(1) <= NOISE + 1e-3
            mine, other = mine[maybe], other[maybe]
            noise = (batch[mine].float() - theirs[other].float()).abs().mean((1, 2, 3))
            found[mine[noise <= NOISE]] = True
        rows.append(start + found.nonzero().flatten())
        start += len(batch)
    return torch.cat(rows) if rows else torch.empty(0, dtype=torch.long)


def _shades(pixels: Tensor) -> Tensor:
    """Unit vectors (n, H W) of grey images without their mean: products are correlations."""
    grey = pixels.float().mean(1).flatten(1)
    return F.normalize(grey - grey.mean(1, keepdim=True), dim=1)


def _thumbnails(pixels: Tensor) -> Tensor:
    """Means of 4 x 4 parts, (n, 16 C)."""
    return F.adaptive_avg_pool2d(pixels.float(), 4).flatten(1)


def difference_hash(pixels: Tensor) -> Tensor:
    """Signs (n, 64) of uint8 images (n, C, S, S): which neighbour in an 8 x 9 thumbnail is brighter; 0 where they are alike."""
    grey = pixels.float().mean(1, keepdim=True)
    small = F.interpolate(grey, (8, 9), mode="bilinear", antialias=True)
    steps = (small[..., 1:] - small[..., :-1]).flatten(1)
    return steps.sign() * (steps.abs() > FLAT)
