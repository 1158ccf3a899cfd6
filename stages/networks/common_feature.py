"""Brings the features of several networks into one space: common feature learning (Luo et al. 2019, arXiv:1906.10546)."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Common(NamedTuple):
    """The `student`'s and each of the `teachers`' common features, (B, h, H, W); the teachers' `maps`, (B, T_i, H, W), and these
    maps as they are `rebuilt` from their common features.
    """

    student: Tensor
    teachers: list[Tensor]
    maps: list[Tensor]
    rebuilt: list[Tensor]


class CommonFeature(nn.Module):
    """Adaptors, one a network, an extractor that all share, and a decoder for each teacher.

    Of maps of the student, (B, S, H, W), and of every teacher, (B, T_i, H_i, W_i), which are pooled to the smallest height and
    width. No bias and no normalisation, as released.
    """

    def __init__(self, student: int, teachers: list[int], hidden: int):
        super().__init__()
        wide = 2 * hidden
        self.adaptors = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, wide, 1, bias=False), nn.ReLU()) for width in (student, *teachers)
        )
        self.extractor = nn.Sequential(Block(wide, hidden), Block(hidden, hidden), Block(hidden, hidden))
        self.decoders = nn.ModuleList(
            nn.Sequential(nn.Conv2d(hidden, width, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(width, width, 1, bias=False))
            for width in teachers
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, student: Tensor, teachers: list[Tensor]) -> Common:
        maps = pooled([student, *teachers])
        own, *theirs = (self.extractor(adapt(x)) for adapt, x in zip(self.adaptors, maps, strict=True))
        return Common(own, theirs, maps[1:], [decode(x) for decode, x in zip(self.decoders, theirs, strict=True)])


class Block(nn.Module):
    """Two convolutions of 3 x 3 around a shortcut, which is one of 1 x 1 where the width changes."""

    def __init__(self, width_in: int, width_out: int):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(width_in, width_out, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width_out, width_out, 3, padding=1, bias=False),
        )
        self.shortcut = nn.Identity() if width_in == width_out else nn.Conv2d(width_in, width_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.convs(x) + self.shortcut(x))


def pooled(maps: list[Tensor]) -> list[Tensor]:
    """All maps with the smallest height and width among them."""
    size = min(x.shape[2] for x in maps), min(x.shape[3] for x in maps)
    return [x if tuple(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size) for x in maps]
