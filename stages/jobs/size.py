"""How large a task's networks are, known from its parameters alone; runs choose their threads and precision by it."""

import re
from pathlib import Path

import torch
from torch import nn

from stages.datasets.examples import pack
from stages.jobs.imported import shell
from stages.kinds import open_kind
from stages.networks.weights import Blueprint, architecture
from stages.settings.task import Task, Teacher
from stages.support.errors import UserError, about
from stages.support.files import read_json

CLASSES = tuple("0123456789")  # how many there are is known once images are read; it changes little
GENERATOR = 37  # of a generator of width w: about 37 w^2 multiply-accumulates a pixel
IMPORTED = 10**9  # what somebody else made is large


def costs(task: Task, name: str) -> dict[str, dict[str, int]]:
    """`params` and `macs` (for one image) of each network of a task of images, by its key: teachers, then `distill.student`.

    Raises UserError that names the key of one that cannot take the images.
    """
    found = {}
    for place, part in enumerate(task.parts):
        key = "teacher" if task.teacher else f"teachers.{place}"
        found[key] = _cost(task, f"task.{name}.{key}", part.network, part)
    found["distill.student"] = _cost(task, f"task.{name}.distill.student", task.distill.student.network)
    return found


def _cost(task: Task, where: str, network: str, part: Teacher | None = None) -> dict[str, int]:
    assert task.image is not None
    shape, cost = task.image.shape, dict[str, int]()
    try:
        net = _net(task, where, network, part)
        with about(where):
            for shape in dict.fromkeys((task.image.trained.shape, task.image.shape)):
                cost = architecture(net, torch.zeros(1, *shape))
    except UserError:
        raise
    except Exception as error:  # whatever somebody's network says of images that it does not take
        raise UserError(
            f"{where}: '{network}' takes no images of {shape[1]} x {shape[2]} ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''}); take another network or size"
        ) from None
    return cost


def _net(task: Task, where: str, network: str, part: Teacher | None) -> nn.Module:
    """The network; of a teacher that was imported as its files say, so that an answer of another form is seen at once."""
    if part is None or part.train or not (part.foreign or part.adapted):
        with about(where):
            return Blueprint(network, CLASSES, task.form.shape).build()
    classes = tuple(map(str, range(len(part.picked)))) or CLASSES
    nothing = pack(torch.zeros(1, *task.form.shape, dtype=torch.uint8), torch.zeros(1, dtype=torch.long), classes)
    return shell(part, open_kind(task, classes), nothing, where)[1].eval()


def largest(task: Task, name: str, generator_width: int = 0, card: Path | None = None) -> int:
    """Multiply-accumulates of one input in the largest network of a run, whose method may have a generator of a width.

    Those of a teacher of another make stand in its `card`, once it was imported. What runs outside of torch counts nothing.
    """
    if task.image is None:
        return max(_encoder(part.network, task.form.length) for part in task.parts)
    _, height, width = task.image.trained.shape
    generator = GENERATOR * generator_width**2 * height * width
    if not any(part.foreign for part in task.parts):
        return max(generator, *(cost["macs"] for cost in costs(task, name).values()))
    student = _cost(task, f"task.{name}.distill.student", task.distill.student.network)["macs"]
    teacher = read_json(card)["macs"] if card is not None and card.exists() else IMPORTED
    return max(generator, student, teacher)


def _encoder(network: str, length: int) -> int:
    """Of the projections and feed-forward layers of an encoder of texts: 12 w^2 a token and layer (Vaswani et al. 2017)."""
    known = re.fullmatch(r"bert_(\d+)_(\d+)", network)
    return int(known[1]) * length * 12 * int(known[2]) ** 2 if known else IMPORTED
