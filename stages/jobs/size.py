"""How large a task's networks are, known from its parameters alone; runs choose their threads and precision by it."""

import re

import torch

from stages.networks.weights import Blueprint, architecture
from stages.settings.task import Task
from stages.support.errors import UserError

CLASSES = tuple("0123456789")  # how many there are is known once images are read; it changes little
GENERATOR = 37  # of a generator of width w: about 37 w^2 multiply-accumulates a pixel
IMPORTED = 10**9  # encoders of texts that somebody else made are large


def costs(task: Task, name: str) -> dict[str, dict[str, int]]:
    """`params` and `macs` (for one image) of each network of a task of images, by its key: teachers, then `distill.student`.

    Raises UserError that names the key of one that cannot take the images.
    """
    assert task.image is not None
    networks = {"teacher" if task.teacher else f"teachers.{i}": part.network for i, part in enumerate(task.parts)}
    networks["distill.student"] = task.distill.student.network
    found = {}
    for key, network in networks.items():
        shape = task.image.shape
        try:
            net = Blueprint(network, CLASSES, shape).build()
            for shape in dict.fromkeys((task.image.trained.shape, task.image.shape)):
                found[key] = architecture(net, torch.zeros(1, *shape))
        except UserError as error:
            raise UserError(f"task.{name}.{key}: {error}") from None
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"task.{name}.{key}: '{network}' takes no images of {shape[1]} x {shape[2]} "
                f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); take another network or size"
            ) from None
    return found


def largest(task: Task, name: str, generator_width: int = 0) -> int:
    """Multiply-accumulates of one input in the largest network of a run, whose method may have a generator of a width."""
    if task.image is None:
        return max(_encoder(part.network, task.form.length) for part in task.parts)
    _, height, width = task.image.trained.shape
    return max(GENERATOR * generator_width**2 * height * width, *(cost["macs"] for cost in costs(task, name).values()))


def _encoder(network: str, length: int) -> int:
    """Of the projections and feed-forward layers of an encoder of texts: 12 w^2 a token and layer (Vaswani et al. 2017)."""
    known = re.fullmatch(r"bert_(\d+)_(\d+)", network)
    return int(known[1]) * length * 12 * int(known[2]) ** 2 if known else IMPORTED
