"""Projection heads of contrastive losses."""

import torch.nn.functional as F
from torch import Tensor, nn


class Projection(nn.Module):
    """Linear-ReLU-Linear to unit vectors: (B, width) -> (B, out)."""

    def __init__(self, width: int, out: int = 256):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.layers(x), dim=1)
