"""What single images do to the teacher's batch normalisation."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from stages.engine.teacher import Teacher
from stages.losses.precision import full
from stages.networks.taps import BatchNorms


@torch.no_grad()
def deviations(teacher: Teacher, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield for each batch (B, C, H, W) rows (B, 2L) on the CPU, for the L channels of all batch-norm layers.

    With m, v the running mean and variance and u, q the means over places of what enters a channel and of its square, a row has
    (u - m) / sqrt(v) and (q - v - m^2) / (v + m^2), over sqrt(L): the squared length of a weighted mean of rows is the mean over
    channels of both mismatches.
    """
    norms = BatchNorms(teacher)
    mean, var = (torch.cat(values) for values in zip(*norms.running, strict=True))
    power = var + mean.square()
    device = next(teacher.parameters()).device
    for inputs in batches:
        _, heard = norms.ask(inputs.to(device))
        means, squares = (torch.cat([full(x).pow(k).mean((2, 3)) for x in heard], 1) for k in (1, 2))
        rows = torch.cat([(means - mean) / var.sqrt().clamp(min=1e-6), (squares - power) / power.clamp(min=1e-12)], 1)
        yield (rows / len(mean) ** 0.5).cpu()
