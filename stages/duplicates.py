"""Finds images that stand in two sets, exactly or nearly: re-compressed, slightly brighter, a pixel of noise."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.datasets import ImageSet
from stages.progress import progress

BITS = 6  # of 64, by which two hashes of one image may differ
LEVELS = 8  # of 255, mean difference of the pixels of near-duplicates


def near_duplicates(images: ImageSet, others: ImageSet, what: str) -> Tensor:
    """Rows of `images` that are in `others` too, or nearly: alike in difference hash, and then pixel by pixel."""
    theirs = torch.cat(list(others.all_batches(512)))
    codes = difference_hash(theirs)
    rows, start = [], 0
    for batch in progress(images.all_batches(512), what, total=-(-len(images) // 512)):
        mine, other = (64 - difference_hash(batch) @ codes.T).div(2).le(BITS).nonzero().unbind(1)
        for part_mine, part_other in zip(mine.split(4096), other.split(4096), strict=True):
            apart = (batch[part_mine].float() - theirs[part_other].float()).abs().mean((1, 2, 3))
            rows.append(start + part_mine[apart <= LEVELS])
        start += len(batch)
    return torch.cat(rows).unique() if rows else torch.empty(0, dtype=torch.long)


def difference_hash(pixels: Tensor) -> Tensor:
    """64 signs (n, 64) of uint8 images (n, C, S, S): whether each cell of an 8 x 9 thumbnail is brighter than its neighbour."""
    grey = pixels.float().mean(1, keepdim=True)
    small = F.interpolate(grey, (8, 9), mode="bilinear", antialias=True)
    return torch.where(small[..., 1:] > small[..., :-1], 1.0, -1.0).flatten(1)
