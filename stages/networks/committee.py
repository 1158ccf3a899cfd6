"""Several networks that answer as one."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Committee(nn.Module):
    """The logits of every part, (B, K_i), side by side: (B, sum of K_i). A part answers for classes of its own."""

    def __init__(self, parts: Iterable[nn.Module]):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.parts], 1)
