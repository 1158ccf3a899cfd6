"""Finds images that stand in two sets, exactly or nearly: re-compressed, slightly brighter, a pixel of noise."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.datasets.examples import Examples
from stages.support.progress import progress

BITS = 6  # of 64, that may be opposite in two hashes of one image
FLAT = 4  # of 255, difference of neighbours that compression may turn round
NOISE = 2  # of 255, mean difference of the pixels of one image that was compressed twice
ALIKE = 0.99  # correlation of the pixels of near-duplicates; two hands write a digit alike up to 0.98


def near_duplicates(images: Examples, others: Examples, what: str) -> Tensor:
    """Rows of `images` that are in `others` too, or nearly: alike in difference hash, and then pixel by pixel.

    Pixels are alike where they are equal up to noise, or in grey up to brightness and contrast.
    """
    theirs = torch.cat(list(others.batches(512)))
    codes, shades, small = difference_hash(theirs), _shades(theirs), _thumbnails(theirs)
    rows, start = [], 0
    for batch in progress(images.batches(512), what, total=-(-len(images) // 512)):
        hashes = difference_hash(batch)
        close = (hashes.abs() @ codes.abs().T - hashes @ codes.T) / 2 <= BITS
        found = close & (_shades(batch) @ shades.T >= ALIKE)
        # Means of parts differ by no more than the parts do on average, so few pairs are left whose pixels must be looked at.
        maybe = close & ~found & (torch.cdist(_thumbnails(batch), small, p=1) <= NOISE * small.shape[1] + 1e-2)
        mine, other = maybe.nonzero().unbind(1)
        for part_mine, part_other in zip(mine.split(4096), other.split(4096), strict=True):
            noise = (batch[part_mine].float() - theirs[part_other].float()).abs().mean((1, 2, 3))
            found[part_mine[noise <= NOISE], part_other[noise <= NOISE]] = True
        rows.append(start + found.any(1).nonzero().flatten())
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
