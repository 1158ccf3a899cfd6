"""Images moved to what a teacher's batch normalisation remembers: the nearest to its domain that there is without its images."""

import torch
from torch import Tensor

from stages.engine.teacher import Teacher
from stages.losses.synthesis import statistics_mismatch
from stages.networks.taps import batch_norms, listening, moments, running_moments
from stages.support.progress import progress

BATCH, STEPS, RATE = 256, 50, 0.01  # images that are moved together, and Adam's steps on their pixels


def fitted(teacher: Teacher, images: Tensor, what: str) -> Tensor:
    """Images (n, C, H, W) in [0, 1], moved until a batch's statistics in T are those of T's training images; `what` names them.

    Adam descends DeepInversion's batch-norm term alone (Yin et al. 2020, arXiv:1912.08795, eq. 4). No class is wanted of any
    image, so T stays as unsure as it is of real ones. Images stand in random order, for each batch is one of the domain.
    """
    norms = batch_norms(teacher)
    stored, device = running_moments(norms), next(teacher.parameters()).device
    found = []
    for batch in progress(images.split(BATCH), what):
        pixels = batch.to(device).clone().requires_grad_()
        optimizer = torch.optim.Adam([pixels], RATE)
        for _ in range(STEPS):
            with listening(norms) as heard:
                teacher(pixels, eager=True)
            loss = statistics_mismatch(moments(heard), stored)
            (pixels.grad,) = torch.autograd.grad(loss, [pixels])
            optimizer.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
        found.append(pixels.detach().cpu())
    return torch.cat(found)


def class_agreement(logits: Tensor, teacher: Tensor) -> float:
    """How often, in percent, a network answers as T (both (n, K)): the mean over the classes that T sees, each counted once."""
    seen, same = teacher.argmax(1), (logits.argmax(1) == teacher.argmax(1)).double()
    return 100 * torch.stack([same[seen == k].mean() for k in seen.unique()]).mean().item()
