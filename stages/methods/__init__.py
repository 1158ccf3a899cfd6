"""What every method is: typed hyper-parameters, players, streams, and one step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from stages import losses
from stages.datasets import ImageSet
from stages.engine.cost import Cost
from stages.engine.loop import Memory
from stages.engine.players import Player, Teacher
from stages.engine.runtime import Runtime
from stages.engine.streams import Stream
from stages.params import Augment
from stages.sections import Section

Phase = tuple[int, Callable[[int], dict[str, Tensor]]]  # iterations; the step, given its number within the phase
Seen = tuple[Tensor, Tensor | None]  # images (B, C, S, S) in [0, 1], and the teacher's logits of them (B, K) where they are known


@dataclass(frozen=True)
class Schedule:
    """The student's training: `steps` SGD steps, cosine from `lr` to 0.

    A step takes `images` real images where a method has some, 2B of the paper; a method that makes images takes `batch` of them.
    """

    steps: int
    images: int
    lr: float
    weight_decay: float
    augment: Augment

    @property
    def batch(self) -> int:
        """B: synthetic images of one step."""
        return self.images // 2


@dataclass(frozen=True)
class Setting:
    """What a method is given. `teacher` is on its device already.

    `mean` and `std` are those of the teacher's training images; every network normalises what it sees with them. `in_domain` is
    there for upper bounds only; `pool_logits` (n, K) are T's answers to the bare images of the pool. `student_domain` holds the
    labelled images of the domain that the student is for, where the task names one and the method asks for them.
    """

    teacher: Teacher
    student: nn.Module
    schedule: Schedule
    seed: int
    runtime: Runtime
    mean: list[float]
    std: list[float]
    pool: ImageSet | None = None
    pool_logits: Tensor | None = None
    in_domain: ImageSet | None = None
    student_domain: ImageSet | None = None
    channels: int = 3
    size: int = 32
    classes: int = 10


class Method:
    """A way to train a student. Subclasses build their players in `build` and write one outer iteration in `step`."""

    class Params(Section):
        """Hyper-parameters, checked; a method without any leaves this empty."""

    upper_bound: ClassVar[bool] = False  # whether the method may see in-domain images, and is marked so in every table
    shifted: ClassVar[bool] = False  # whether the method needs labelled images of the student's domain
    nesterov: ClassVar[bool] = False

    def __init__(self, setting: Setting, params: Section):
        self.setting, self.params = setting, params
        self.teacher = setting.teacher
        self.players: dict[str, Player] = {}
        self.streams: dict[str, Stream] = {}
        self.cost = Cost(self.teacher, setting.runtime)
        self.memories: dict[str, Memory] = {"cost": self.cost}
        student = setting.runtime.place(setting.student)
        if {id(parameter) for parameter in student.parameters()} & {id(parameter) for parameter in self.teacher.parameters()}:
            raise ValueError("the student and the teacher share parameters: training the one would change the other")
        self.student = self.player("student", student, self.optimizer(student))
        self.build()

    @property
    def name(self) -> str:
        """The method's name in params.yaml."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def iterations(self) -> int:
        """Outer iterations of the whole run."""
        return self.setting.schedule.steps

    def build(self) -> None:
        """Make players and streams, beyond the student."""

    def step(self) -> dict[str, Tensor]:
        """One outer iteration; returns named scalars, each without a graph or about to lose it."""
        raise NotImplementedError

    def samples(self, count: int) -> Tensor | None:
        """`count` synthetic images (count, C, S, S) in [0, 1] as they are at the end, or None for a method that makes none."""
        return None

    def optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        """SGD as the task's schedule says: the student's optimiser, and that of heads that learn beside it."""
        schedule = self.setting.schedule
        return torch.optim.SGD(
            net.parameters(), schedule.lr, 0.9, weight_decay=schedule.weight_decay, nesterov=self.nesterov, fused=True
        )

    def player(
        self,
        name: str,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        constant: bool = False,
        span: tuple[float, float] = (0.0, 1.0),
    ) -> Player:
        """Register a player, whose network is on its device already.

        Its learning rate is `constant`, or follows a cosine over `span`, a part of the run (0 to 1).
        """
        self.players[name] = Player(net, optimizer, self.setting.runtime, constant, span)
        return self.players[name]

    def stream(
        self, name: str, images: ImageSet, batch: int, augment: Augment | None = None, logits: Tensor | None = None
    ) -> Stream:
        """Register a shuffled endless stream of `images`, in batches over all ranks of `batch`."""
        setting = self.setting
        self.streams[name] = Stream(name, images, batch, setting.seed, setting.runtime, augment or Augment(), logits)
        return self.streams[name]

    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """What the student descends, of logits (B, K): KL(T || S) unless the method says otherwise."""
        return losses.kl_divergence(teacher, student)

    def imitate(self, batches: Sequence[Sequence[Seen]]) -> Tensor:
        """One student step down `distance` on each batch, a batch being the union of its parts. Returns the mean loss.

        The teacher stands still, so it looks at all that it has not seen yet in one go.
        """
        unknown = [images for batch in batches for images, logits in batch if logits is None]
        answers = iter(self.teacher.logits(torch.cat(unknown)).split([len(images) for images in unknown]) if unknown else [])
        total = torch.zeros((), device=self.setting.runtime.device)
        for batch in batches:
            images = torch.cat([images for images, _ in batch])
            teacher = torch.cat([next(answers) if logits is None else logits for _, logits in batch])
            with self.student.turn():
                loss = self.distance(teacher, self.student(images))
                self.student.update(loss)
            total += loss.detach()
        return total / len(batches)


class Supervised(Method):
    """SGD on the true labels; subclasses say of which domain."""

    nesterov = True
    domain: ClassVar[Literal["in_domain", "student_domain"]]

    def build(self) -> None:
        """One stream of labelled images."""
        schedule = self.setting.schedule
        self.images = self.stream(self.domain, getattr(self.setting, self.domain), schedule.images, schedule.augment)

    def step(self) -> dict[str, Tensor]:
        """One step down the cross-entropy."""
        batch = self.images.next()
        with self.cost.timed("distillation"), self.student.turn():
            loss = F.cross_entropy(losses.full(self.student(batch.images)), batch.labels)
            self.student.update(loss)
        return {"loss": loss}


class Phased(Method):
    """A method of several phases, one after another. How far it is is a memory of the run, so it resumes inside any of them."""

    def __init__(self, setting: Setting, params: Section):
        self.clock = Clock()
        super().__init__(setting, params)
        self.memories["clock"] = self.clock

    def phases(self) -> list[Phase]:
        """All phases, in order."""
        raise NotImplementedError

    @property
    def iterations(self) -> int:
        """Outer iterations of all phases."""
        return sum(length for length, _ in self.phases())

    def span(self, phase: int) -> tuple[float, float]:
        """The part of the run, 0 to 1, that phase number `phase` takes."""
        lengths = [length for length, _ in self.phases()]
        return sum(lengths[:phase]) / sum(lengths), sum(lengths[: phase + 1]) / sum(lengths)

    def step(self) -> dict[str, Tensor]:
        """The next step of the phase whose turn it is."""
        number = self.clock.done
        for length, step in self.phases():
            if number < length:
                self.clock.done += 1
                return step(number)
            number -= length
        raise IndexError("all phases are over")


class Clock:
    """Counts the steps that a run has done."""

    def __init__(self) -> None:
        self.done = 0

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        return {"done": self.done}

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.done = state["done"]


class Imitation(Method):
    """Plain knowledge distillation (Hinton et al. 2015, arXiv:1503.02531); subclasses say on which images."""

    class Params(Section):
        """`tau` is the temperature; 5 in MosaicKD's released baseline."""

        tau: Annotated[float, Field(gt=0)] = 5.0

    params: Params

    def images(self) -> Seen:
        """The images of the next student step, in [0, 1], and the teacher's logits where they are known."""
        raise NotImplementedError

    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """KL(T || S) at the temperature tau, times tau^2."""
        return losses.kl_divergence(teacher, student, self.params.tau)

    def step(self) -> dict[str, Tensor]:
        """One student step."""
        with self.cost.timed("distillation"):
            return {"loss": self.imitate([[self.images()]])}
