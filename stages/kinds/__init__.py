"""What changes with the kind of labels: what networks see, how teachers learn, what is said of an example, what is measured.

A kind is a folder: `__init__.py` holds its `Kind`, which training needs; `splits.py` how its data is split, `scores.py` its
measures and `figures.py` its pictures, so that a new measure or figure re-trains nothing. What kinds share lies beside them.
"""

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stages.datasets.examples import LABEL, UNKNOWN, Examples
from stages.datasets.images import IMAGES as IMAGES
from stages.datasets.images import Augment
from stages.datasets.texts import TEXTS
from stages.engine.players import judged
from stages.engine.streams import Batch
from stages.losses.labels import cross_entropy
from stages.losses.precision import full
from stages.networks.answers import stored
from stages.networks.weights import Blueprint
from stages.settings.task import HELD_OUT, LABELLED, Task
from stages.support.errors import UserError
from stages.support.plugins import plugin

FOLDER = "stages.kinds"
ONE_LABEL = "one_label"
AGREEMENT = "agree"  # the headline where there are no labels
_PLACES = 2**20  # pixels or tokens that a network answers at a time


class Kind(ABC):
    """A kind of task with the form of the inputs of training and the names of its classes. Logits are (B, K, ...)."""

    has: ClassVar[frozenset[str]]  # what a method may ask of it: IMAGES or TEXTS, ONE_LABEL an example
    score: ClassVar[str]  # by which rows are compared where there are labels, in percent
    measured = LABELLED  # by what students are measured, as `Task.measured` says
    samples: ClassVar[int] = 1000  # synthetic inputs that are kept of a run, for figures and their likeness to the domain

    def __init__(self, form: Any, classes: tuple[str, ...]):
        self.form, self.classes = form, classes

    @property
    def headline(self) -> str:
        """The score by which rows are compared, in percent; curves show it as val_HEADLINE."""
        return self.score if self.measured == LABELLED else AGREEMENT + self.suffix

    @property
    def suffix(self) -> str:
        """What ends the names of scores of images that are held out of the pool."""
        return "_pool" if self.measured == HELD_OUT else ""

    @property
    def held(self) -> str:
        """What the validation split is, for figures."""
        return "held out of the pool" if self.measured == HELD_OUT else "in-domain (validation)"

    @property
    def tested(self) -> str:
        """What the test split is, for figures."""
        return "images held out of the pool" if self.measured == HELD_OUT else "the test split"

    @property
    def answer(self) -> tuple[int, ...]:
        """The shape of the logits of one input of training."""
        return (len(self.classes),)

    @abstractmethod
    def blueprint(self, network: str, examples: Examples, model: dict[str, Any] | None = None) -> Blueprint:
        """All that it takes to build a teacher for `examples`; `model` is the configuration of its own of an imported one.

        Raises UserError where that does not fit the examples.
        """

    @abstractmethod
    def view(self, batch: Batch, augment: Augment) -> Batch:
        """What a network sees of a batch in training: inputs, moved at random as `augment` says, and labels moved with them.

        Of inputs that change, the column `logits` is left out: those were of the bare ones.
        """

    def loss(self, logits: Tensor, batch: Batch, focal: float = 0.0) -> Tensor:
        """How a teacher is trained: cross-entropy of all that is labelled, or focal loss with that exponent; a scalar."""
        return cross_entropy(logits, batch[LABEL], UNKNOWN, focal)

    @abstractmethod
    def summary(self, logits: Tensor) -> dict[str, Tensor]:
        """All that curation may know of n inputs.

        `shares` (n, K) of each class in what is predicted, `entropy` (n,) in nats, `confidence` (n,) in [1 / K, 1].
        """

    @abstractmethod
    def measure(self, logits: Tensor, examples: Examples) -> float:
        """The headline score, higher is better."""

    @abstractmethod
    def agreement(self, logits: Tensor, teacher: Tensor) -> float:
        """How often, in percent, a network answers as the teacher."""

    @abstractmethod
    def sense(self, logits: Tensor, examples: Examples) -> tuple[float, float]:
        """A score in percent by which a network that knows its classes differs from one that guesses, and what guessing gives."""

    @abstractmethod
    def blank(self, n: int) -> Tensor:
        """n whole inputs of which nothing matters but the form."""

    def aims(self, n: int) -> Tensor | None:
        """Labels (n,) for n inputs that are to be made: every class equally often, shuffled; None where a label is no class."""
        return None

    def changed(self, shape: tuple[int, ...], augment: Augment) -> bool:
        """Whether networks see, in training, inputs of `shape` otherwise than they are."""
        return augment.changes

    def plain(self, inputs: Tensor) -> Tensor:
        """Whole inputs as a network sees them when it is measured."""
        return inputs

    def stored(self, samples: Tensor) -> Tensor:
        """Synthetic inputs as they lie on disk; `plain` turns them back."""
        return samples

    def shown(self, examples: Examples, batch: int) -> Iterator[Tensor]:
        """Whole inputs in order, `batch` at a time, as a network sees them."""
        return (self.plain(inputs) for inputs in examples.batches(batch))

    @torch.no_grad()
    def answers(self, net: nn.Module, examples: Examples, batch: int = 256) -> Tensor:
        """Logits (n, K, ...) of whole inputs on the CPU, computed where `net` is, `batch` at a time or fewer large ones.

        Of a teacher that was asked once, what it said; NaN of an input that it was not asked of.
        """
        if (told := stored(net)) is not None:
            return told.of(examples.files or [""] * len(examples), parts=2)  # 1.png alone may be any class's
        device = next(net.parameters()).device
        batch = max(1, min(batch, _PLACES // torch.Size(examples.shape[1:] or examples.shape).numel()))
        return torch.cat([full(net(inputs.to(device))).cpu() for inputs in self.shown(examples, batch)])


def open_kind(task: Task, classes: tuple[str, ...]) -> Kind:
    """The kind of `task`; raises UserError for an unknown one."""
    kind: Kind = plugin(FOLDER, task.kind, "Kind", "kind of task")(task.form, classes)
    kind.measured = task.measured
    return kind


def answered(kind: Kind, teacher: nn.Module, examples: Examples) -> Examples:
    """The examples to which the teacher has an answer: all, unless it was asked once. Raises UserError where there are none."""
    if stored(teacher) is None:
        return examples
    known = (~kind.answers(teacher, examples).isnan().any(1)).nonzero().flatten()
    if not len(known):
        raise UserError(
            f"the teacher was asked once, and of none of the {len(examples)} images that measure students ({kind.held}); "
            "give answers to more images, or labelled ones"
        )
    return examples.subset(known)


class Probe:
    """Measures a network in training on the validation split, for learning curves; nothing is chosen by it.

    Where that has no labels, by how often it answers as the `teacher`, on what this one has an answer to.
    """

    def __init__(self, kind: Kind, net: nn.Module, val: Examples, autocast: Any, teacher: nn.Module | None = None):
        self.kind, self.net, self.val, self.autocast = kind, net, val, autocast
        if teacher is not None and LABEL not in val.columns:
            self.val = answered(kind, teacher, val)
        self.teacher = None if teacher is None else self._answers(teacher)

    def __call__(self) -> dict[str, float]:
        """Where there is a teacher, val_agree; then, last, the headline score as val_HEADLINE, if it is another."""
        logits, score = self._answers(self.net), f"val_{self.kind.headline}"
        agree = math.nan if self.teacher is None else self.kind.agreement(logits, self.teacher)
        if LABEL not in self.val.columns:
            return {score: agree}
        return ({} if self.teacher is None else {"val_agree": agree}) | {score: self.kind.measure(logits, self.val)}

    def _answers(self, net: nn.Module) -> Tensor:
        with judged(net), self.autocast():
            return self.kind.answers(net, self.val, 512)


def aspect(kind: str, name: str, where: str = "") -> Any:
    """The module `splits`, `scores` or `figures` of a kind; raises UserError that begins with `where` for an unknown kind."""
    plugin(FOLDER, kind, "Kind", "kind of task", where)
    return importlib.import_module(f"{FOLDER}.{kind}.{name}")


def check_form(task: Task, key: str) -> None:
    """Raise UserError that names the section `key` for a task whose kind does not fit its form, or its several teachers."""
    has = plugin(FOLDER, task.kind, "Kind", "kind of task", f"{key}.kind: ").has
    wants = "text" if TEXTS in has else "image"
    if task.teachers and not {IMAGES, ONE_LABEL} <= has:
        raise UserError(f"{key}.teachers: several teachers take images of one label each, which '{task.kind}' has not")
    if ONE_LABEL not in has and any(part.network == "answers" for part in task.parts):
        raise UserError(f"{key}.teacher.answers: an answer is to an input of one label, which '{task.kind}' has not")
    if getattr(task, wants) is None:
        raise UserError(f"{key}: the kind '{task.kind}' wants `{wants}`, which says what its inputs are like")
