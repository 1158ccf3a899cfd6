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
    """Rows of `images` that are in `others` too, or nearly: alike in difference hash, and then pixel by pixel."""
    theirs = torch.cat(list(others.batches(512)))
    codes = difference_hash(theirs)
    rows, start = [], 0
    for batch in progress(images.batches(512), what, total=-(-len(images) // 512)):
        hashes = difference_hash(batch)
        opposite = (hashes.abs() @ codes.abs().T - hashes @ codes.T) / 2
        mine, other = (opposite <= BITS).nonzero().unbind(1)
        for part_mine, part_other in zip(mine.split(4096), other.split(4096), strict=True):
            rows.append(start + part_mine[_alike(batch[part_mine], theirs[part_other])])
        start += len(batch)
    return torch.cat(rows).unique() if rows else torch.empty(0, dtype=torch.long)


def _alike(some: Tensor, others: Tensor) -> Tensor:
    """Which pairs (n,) of uint8 images (n, C, S, S) are equal up to noise, or in grey up to brightness and contrast."""
    grey = (x.float().mean(1).flatten(1) for x in (some, others))
    mine, theirs = (F.normalize(x - x.mean(1, keepdim=True), dim=1) for x in grey)
    return ((mine * theirs).sum(1) >= ALIKE) | ((some.float() - others.float()).abs().mean((1, 2, 3)) <= NOISE)


def difference_hash(pixels: Tensor) -> Tensor:
    """Signs (n, 64) of uint8 images (n, C, S, S): which neighbour in an 8 x 9 thumbnail is brighter; 0 where they are alike."""
    grey = pixels.float().mean(1, keepdim=True)
    small = F.interpolate(grey, (8, 9), mode="bilinear", antialias=True)
    steps = (small[..., 1:] - small[..., :-1]).flatten(1)
    return steps.sign() * (steps.abs() > FLAT)
