"""Seeds made of several numbers, and the order that comes of none."""

import torch
from torch import Tensor


def mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers (splitmix64): neighbouring seeds and steps give unrelated streams."""
    mixed = 0
    for number in numbers:
        mixed = (mixed ^ number) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 1


def shuffled(count: int, seed: int = 0) -> Tensor:
    """0 to `count` - 1 in one random order, the same for the same seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(mix(seed)))
