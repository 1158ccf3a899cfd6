"""Statistics of the whole batch where it lies on several ranks, with gradients to every rank's part."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.engine.runtime import Runtime
from stages.losses.synthesis import Moments
from stages.networks import taps


def union_moments(heard: Sequence[Tensor], runtime: Runtime) -> list[Moments]:
    """Mean and biased variance per channel of what entered each layer, (B, C, H, W), over batch and places of all ranks."""
    mine = taps.moments(heard)
    if runtime.world == 1:
        return mine
    widths = [len(mean) for mean, _ in mine]
    means, squares = (torch.cat(parts) for parts in zip(*((mean, var + mean.square()) for mean, var in mine), strict=True))
    mean, square = runtime.union(torch.stack([means, squares])[None]).mean(0)
    return list(zip(mean.split(widths), (square - mean.square()).split(widths), strict=True))


def settle(runtime: Runtime, shared: Sequence[Tensor], own: Sequence[Tensor]) -> None:
    """After a backward: give tensors that all ranks hold, and a rank's own rows, the gradients of a rank with the whole batch."""
    runtime.average_([tensor.grad for tensor in shared if tensor.grad is not None])
    if runtime.world > 1:
        for tensor in own:
            assert tensor.grad is not None
            tensor.grad /= runtime.world
