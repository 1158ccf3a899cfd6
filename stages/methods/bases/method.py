"""What every method is: typed hyper-parameters, players, streams, and one step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from stages.datasets.examples import LOGITS, Examples
from stages.datasets.images import Augment
from stages.engine.cost import Cost
from stages.engine.loop import Memory
from stages.engine.players import Player, trainable
from stages.engine.runtime import Runtime
from stages.engine.streams import Batch, Stream, View
from stages.engine.teacher import ASKED, Teacher
from stages.kinds import Kind
from stages.losses import distillation
from stages.settings.rates import Falling
from stages.settings.task import Optimizer
from stages.support.sections import Positive, Rate, Section, Weight

POOL, IN_DOMAIN, LABELS = "pool", "in_domain", "labels"
Seen = tuple[Tensor, Tensor | None]  # inputs (B, ...) as a network sees them, and T's logits of them (B, K, ...) where known


@dataclass(frozen=True)
class Schedule:
    """The student's training: `steps` steps of `optimizer`, its rate `lr` falling as `rate` says.

    `batch` is B of the papers: a step takes B examples of a method that makes them, or `real` ones, 2B, where it has some. A
    gradient longer than `clip` is shortened to it.
    """

    steps: int
    batch: int
    real: int
    lr: float
    weight_decay: float
    augment: Augment = field(default_factory=Augment)
    optimizer: Optimizer = "sgd"
    rate: Falling = "cosine"
    clip: float | None = None
    augment_pool: Augment | None = None

    @property
    def of_pool(self) -> Augment:
        """The augmentation of the pool's images."""
        return self.augment if self.augment_pool is None else self.augment_pool

    def beside(self, other: "Schedule") -> dict[str, list[Any]]:
        """Where this schedule is not as the `other`: [the other's, this one's], by key; `real` follows from `batch`."""
        pairs = {item.name: [_plain(getattr(one, item.name)) for one in (other, self)] for item in fields(self)}
        return {key: pair for key, pair in pairs.items() if pair[0] != pair[1] and key != "real"}


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Section) else value


class Rescheduled(Section):
    """What a method changes of the task's schedule: its paper's own, for the rows that were published."""

    steps: Positive | None = None
    batch: Annotated[int, Field(ge=2)] | None = None
    lr: Rate | None = None
    weight_decay: Weight | None = None
    augment: Augment | None = None
    optimizer: Optimizer | None = None
    rate: Falling | None = None
    clip: Rate | None = None
    augment_pool: Augment | None = None

    def smoke(self) -> Self:
        """The task's steps and batch, which are shrunk already."""
        return self.model_copy(update={"steps": None, "batch": None})

    def of(self, schedule: Schedule) -> Schedule:
        """The task's `schedule` with these changes."""
        changes = {key: value for key in Rescheduled.model_fields if (value := getattr(self, key)) is not None}
        if self.augment is not None:
            changes.setdefault("augment_pool", None)  # the method's own is for the pool too
        return replace(schedule, **changes, real=2 * self.batch if self.batch else schedule.real)


class MethodParams(Section):
    """Hyper-parameters of a method: its own, and the `schedule` that it brings, if any."""

    schedule: Rescheduled | None = None


class Tempered(MethodParams):
    """`tau` is the temperature at which S learns T's predictions; 1 leaves them as they are."""

    tau: Rate = 1.0


@dataclass(frozen=True)
class Setting:
    """What a method is given. `teacher` is on its device already.

    `mean` and `std`, one a channel, are those of the teacher's training images; networks that see images normalise with them.
    `known` says how many classes each of the teacher's parts answers for.
    `data` has what the method `sees`: `pool`, with T's `logits` of the bare inputs as a column; `in_domain`, without labels
    unless it sees `labels`; `student_domain`, labelled.
    """

    kind: Kind
    teacher: Teacher
    student: nn.Module
    schedule: Schedule
    seed: int
    runtime: Runtime
    data: dict[str, Examples] = field(default_factory=dict)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    known: list[int] = field(default_factory=list)

    @property
    def form(self) -> Any:
        """What one input is like: its shape and type."""
        return self.kind.form

    @property
    def classes(self) -> int:
        """The number of classes, K."""
        return len(self.kind.classes)


class Method:
    """A way to train a student. Subclasses build their players in `build` and write one outer iteration in `step`."""

    Params: type[MethodParams] = MethodParams  # the method's hyper-parameters; one that has some defines a class of that name

    of_kind: ClassVar[frozenset[str]] = frozenset()  # what the kind of task must have: images, one_label
    sees: ClassVar[frozenset[str]] = frozenset()  # the data that it may see: POOL, IN_DOMAIN, LABELS (of it), STUDENT_DOMAIN
    answered: ClassVar[bool] = False  # whether T's answers to the pool, asked once, are all that it needs of T
    nesterov: ClassVar[bool] = False

    @classmethod
    def needs(cls, params: Any) -> frozenset[str]:
        """What the teacher must be able to do, of the words of `Teacher.can`, beside answering."""
        return frozenset()

    def __init__(self, setting: Setting, params: Any):
        self.setting, self.params = setting, params
        self.schedule = params.schedule.of(setting.schedule) if params.schedule else setting.schedule
        self.teacher = setting.teacher
        self.players: dict[str, Player] = {}
        self.streams: dict[str, Stream] = {}
        self.cost = Cost(self.teacher, setting.runtime)
        self.memories: dict[str, Memory] = {"cost": self.cost}
        student = setting.runtime.place(setting.student)
        if {id(parameter) for parameter in student.parameters()} & {id(parameter) for parameter in self.teacher.parameters()}:
            raise ValueError("the student and the teacher share parameters: training the one would change the other")
        self.student = self.learner("student", student)
        self.build()

    @property
    def name(self) -> str:
        """The method's name in params.yaml."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def iterations(self) -> int:
        """Outer iterations of the whole run."""
        return self.schedule.steps

    def build(self) -> None:
        """Make players and streams, beyond the student."""

    def step(self) -> dict[str, Tensor]:
        """One outer iteration; returns named scalars, each without a graph or about to lose it."""
        raise NotImplementedError

    def samples(self, count: int) -> Tensor | None:
        """`count` synthetic inputs as they are at the end, images in [0, 1] or embeddings; None for a method that makes none."""
        return None

    def findings(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """What the method measures of itself at the end, for the tables; and features (n, F) of the same inputs, by the network
        that they are of, for a figure. Neither by default.
        """
        return {}, {}

    def optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        """As the schedule says, of the parameters that are not frozen."""
        schedule, free = self.schedule, trainable(net)
        if schedule.optimizer != "sgd":
            of = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[schedule.optimizer]
            return of(free, schedule.lr, weight_decay=schedule.weight_decay, fused=True)
        return torch.optim.SGD(free, schedule.lr, 0.9, weight_decay=schedule.weight_decay, nesterov=self.nesterov, fused=True)

    def learner(self, name: str, net: nn.Module, span: tuple[float, float] = (0.0, 1.0)) -> Player:
        """Register a player that learns as the schedule says: the student, and heads beside it."""
        return self.player(name, net, self.optimizer(net), self.schedule.rate, span, self.schedule.clip)

    def player(
        self,
        name: str,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        falling: Falling = "cosine",
        span: tuple[float, float] = (0.0, 1.0),
        clip: float | None = None,
    ) -> Player:
        """Register a player, whose network is on its device already.

        Its learning rate is `falling` over `span`, a part of the run (0 to 1).
        """
        self.players[name] = Player(net, optimizer, self.setting.runtime, falling, span, clip)
        return self.players[name]

    def stream(
        self, name: str, examples: Examples, batch: int, augment: Augment | None = None, weights: Tensor | None = None
    ) -> Stream:
        """Register a shuffled endless stream of `examples`, in batches over all ranks of `batch`; drawn by `weights` if given."""
        setting = self.setting
        view: View = partial(setting.kind.view, augment=augment or Augment())
        if ASKED not in self.teacher.can:
            view = partial(_keeping_logits, view)
        self.streams[name] = Stream(name, examples, batch, setting.seed, setting.runtime, view, weights)
        return self.streams[name]

    def turns(self, steps: int) -> int:
        """Outer iterations of so many student steps each; the last may be shorter."""
        return math.ceil(self.schedule.steps / steps)

    def left(self, steps: int) -> int:
        """So many student steps, or those that the schedule has left."""
        return min(steps, self.schedule.steps - self.student.updates)

    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """What the student descends, of logits (B, K, ...): tau^2 KL(T || S) at temperature tau, or what a method has instead."""
        return distillation.kl_divergence(teacher, student, self.params.tau if isinstance(self.params, Tempered) else 1.0)

    def imitate(self, batches: Sequence[Sequence[Seen]]) -> Tensor:
        """One student step down `distance` on each batch, a batch being the union of its parts. Returns the mean loss.

        The teacher stands still, so it looks at all that it has not seen yet in one go.
        """
        unknown = [inputs for batch in batches for inputs, logits in batch if logits is None]
        answers = iter(self.teacher.logits(torch.cat(unknown)).split([len(inputs) for inputs in unknown]) if unknown else [])
        total = torch.zeros((), device=self.setting.runtime.device)
        for batch in batches:
            inputs = torch.cat([inputs for inputs, _ in batch])
            teacher = torch.cat([next(answers) if logits is None else logits for _, logits in batch])
            with self.student.turn():
                loss = self.distance(teacher, self.student(inputs))
                self.student.update(loss)
            total += loss.detach()
        return total / len(batches)


def _keeping_logits(view: View, batch: Batch) -> Batch:
    """A view of a batch whose images T cannot be asked of again: however they are moved, T's answer is that to the bare ones."""
    shown = view(batch)
    return {**shown, LOGITS: batch[LOGITS]} if LOGITS in batch else shown


def seen(batch: Batch) -> Seen:
    """A batch's inputs, and the teacher's logits where it has them."""
    return batch["input"], batch.get(LOGITS)
