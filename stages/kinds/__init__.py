"""What changes with the kind of labels: what networks see, how teachers learn, what is said of an example, what is measured.

A kind is a folder: `__init__.py` holds its `Kind`, which training needs; `splits.py` how its data is split, `scores.py` its
measures and `figures.py` its pictures, so that a new measure or figure re-trains nothing.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stages.datasets.examples import Examples
from stages.datasets.images import Augment, ImageForm
from stages.engine.players import judged
from stages.engine.streams import Batch
from stages.losses.precision import full
from stages.settings.task import Task
from stages.support.parts import part

FOLDER = "stages.kinds"
IMAGES, ONE_LABEL = "images", "one_label"
NO_CHANGE = Augment()


class Kind(ABC):
    """A kind of task with the form of its inputs and the names of its classes. Logits are (B, K, ...)."""

    has: ClassVar[frozenset[str]]  # what a method may ask of it: IMAGES, ONE_LABEL an example
    headline: ClassVar[str]  # the score by which rows are compared; curves show it as val_HEADLINE

    def __init__(self, form: ImageForm, classes: tuple[str, ...]):
        self.form, self.classes = form, classes

    @abstractmethod
    def statistics(self, examples: Examples) -> tuple[list[float], list[float]] | tuple[None, None]:
        """Mean and standard deviation by which networks normalise, one a channel; None where inputs are no numbers."""

    @abstractmethod
    def view(self, batch: Batch, augment: Augment) -> Batch:
        """What a network sees of a batch: inputs, moved at random as `augment` says, and labels moved with them."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """How a teacher is trained: a scalar."""

    @abstractmethod
    def summary(self, logits: Tensor) -> dict[str, Tensor]:
        """All that curation may know, (n,) each: `predicted` class, `entropy` in nats, `confidence` in [1 / K, 1]."""

    @abstractmethod
    def measure(self, logits: Tensor, examples: Examples) -> float:
        """The headline score, higher is better."""

    @abstractmethod
    def agreement(self, logits: Tensor, teacher: Tensor) -> float:
        """How often, in percent, a network answers as the teacher."""

    @abstractmethod
    def guess(self, examples: Examples) -> float:
        """The headline score of an answer that looks at no input."""

    def blank(self, n: int) -> Tensor:
        """n inputs of which nothing matters but the form."""
        return torch.zeros(n, *self.form.shape)

    def shown(self, examples: Examples, batch: int) -> Iterator[Tensor]:
        """Inputs in order, `batch` at a time, as a network sees them."""
        return (self.view({"input": inputs}, NO_CHANGE)["input"] for inputs in examples.batches(batch))

    @torch.no_grad()
    def answers(self, net: nn.Module, examples: Examples, batch: int = 256) -> Tensor:
        """Logits (n, K, ...) on the CPU, computed where `net` is."""
        device = next(net.parameters()).device
        return torch.cat([full(net(inputs.to(device))).cpu() for inputs in self.shown(examples, batch)])


def open_kind(task: Task, classes: tuple[str, ...]) -> Kind:
    """The kind of `task`; raises UserError for an unknown one."""
    kind: Kind = part(FOLDER, task.kind, "Kind", "kind of task")(task.form, classes)
    return kind


class Probe:
    """Measures a network in training on the validation split, for learning curves; nothing is chosen by it."""

    def __init__(self, kind: Kind, net: nn.Module, val: Examples, autocast: Any, teacher: nn.Module | None = None):
        self.kind, self.net, self.val, self.autocast = kind, net, val, autocast
        self.teacher = None if teacher is None else self._answers(teacher)

    def __call__(self) -> dict[str, float]:
        """The headline score as val_HEADLINE and, where there is a teacher, val_agree."""
        logits = self._answers(self.net)
        result = {f"val_{self.kind.headline}": self.kind.measure(logits, self.val)}
        return result if self.teacher is None else result | {"val_agree": self.kind.agreement(logits, self.teacher)}

    def _answers(self, net: nn.Module) -> Tensor:
        with judged(net), self.autocast():
            return self.kind.answers(net, self.val, 512)


def aspect(kind: str, name: str, where: str = "") -> Any:
    """The module `splits`, `scores` or `figures` of a kind; raises UserError that begins with `where` for an unknown kind."""
    part(FOLDER, kind, "Kind", "kind of task", where)
    return importlib.import_module(f"{FOLDER}.{kind}.{name}")
