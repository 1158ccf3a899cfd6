"""Students ranked without an image of the domain: on images moved to what the teacher's batch normalisation remembers of it."""

import torch
from torch import Tensor

from stages.datasets.examples import Examples, pack
from stages.datasets.images import to_uint8, to_unit
from stages.engine.teacher import BATCH_NORM, GRADIENT, Teacher
from stages.kinds import IMAGES, ONE_LABEL, Kind
from stages.losses.synthesis import statistics_mismatch
from stages.networks.taps import batch_norms, listening, moments, running_moments
from stages.settings.task import HELD_OUT
from stages.support.progress import progress
from stages.support.seeds import shuffled

SCORE = "agree_fitted"
IMAGES_FITTED, BATCH = 1024, 256  # at most, and of them together
STEPS, RATE = 50, 0.01  # of Adam on the pixels


def ranked(kind: Kind, teacher: Teacher) -> str:
    """The score by which rows are compared: the headline, unless the pool alone measures students and can be fitted."""
    fits = {IMAGES, ONE_LABEL} <= kind.has and {GRADIENT, BATCH_NORM} <= teacher.can
    return SCORE if fits and kind.measured == HELD_OUT else kind.headline


def some_fitted(teacher: Teacher, examples: Examples, what: str) -> Examples:
    """Some of the examples' images, fitted."""
    chosen = examples.subset(shuffled(len(examples))[:IMAGES_FITTED])
    return pack(to_uint8(fitted(teacher, to_unit(chosen.all_inputs()), what)))


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
