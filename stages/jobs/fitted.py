"""Students compared without an image of the domain: on images fitted to what the teacher's batch normalisation remembers."""

import math

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
MOST = 1024  # images that are fitted
BATCH, PIXELS, LEAST = 256, 2**20, 32  # images fitted together: fewer where they are large, for memory, but not too few
STEPS, RATE = 50, 0.01  # of Adam on the pixels


def compared_by(kind: Kind, teacher: Teacher) -> str:
    """The score by which rows are compared: the headline, unless the pool alone measures students and can be fitted.

    For that the one network of the teacher needs gradients and batch normalisation, and an example is an image of one label.
    """
    able = {GRADIENT, BATCH_NORM} <= teacher.can and len(teacher.parts) == 1
    return SCORE if kind.measured == HELD_OUT and able and {IMAGES, ONE_LABEL} <= kind.has else kind.headline


def some_fitted(teacher: Teacher, examples: Examples, what: str) -> Examples:
    """Some of the examples' images, always the same ones, fitted."""
    chosen = examples.subset(shuffled(len(examples))[:MOST])
    return pack(to_uint8(fitted(teacher, to_unit(chosen.all_inputs()), what)))


def fitted(teacher: Teacher, images: Tensor, what: str) -> Tensor:
    """Images (n, C, H, W) in [0, 1], moved so that a batch's statistics in T come near those of its training; `what` names them.

    Adam descends DeepInversion's batch-norm term alone (Yin et al. 2020, arXiv:1912.08795, eq. 4). No class is wanted of any
    image. Images stand in random order, for each batch should look like one of the domain.
    """
    norms = batch_norms(teacher)
    stored, device = running_moments(norms), next(teacher.parameters()).device
    together = max(LEAST, min(BATCH, PIXELS // images[0, 0].numel()))
    found = []
    for batch in progress(images.tensor_split(math.ceil(len(images) / together)), what):
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
