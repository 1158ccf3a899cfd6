"""A data-free method whose student then learns from labels of its own domain: the rows with a + in AuG-KD's tables."""

from dataclasses import replace
from typing import Any, ClassVar, Self

from torch import Tensor

from stages.methods.bases.method import Method, MethodParams
from stages.methods.bases.phased import Phase, Phased
from stages.settings.task import STUDENT_DOMAIN
from stages.support.sections import Positive


class DataFree(MethodParams):
    """`data_free` is the length of the first method's part, in steps of S. Comes before the first method's parameters."""

    data_free: Positive = 80000

    def smoke(self) -> Self:
        """A few steps of either part."""
        return super().smoke().model_copy(update={"data_free": 20})


class Finetuned(Phased):
    """`first` as it is, for `data_free` steps of the student; then the kind's loss of labels, with a fresh optimiser.

    Subclasses name `first`, and parameters that are `DataFree` and the first's.
    """

    first: ClassVar[type[Method]]

    def __init_subclass__(cls) -> None:
        """It is for what the first method is for, and sees the student's domain beside."""
        super().__init_subclass__()
        cls.of_kind, cls.sees = cls.first.of_kind, cls.first.sees | {STUDENT_DOMAIN}

    @classmethod
    def needs(cls, params: Any) -> frozenset[str]:
        """What the first method needs."""
        return cls.first.needs(params)

    def build(self) -> None:
        """The first method on this one's student, and the labelled examples."""
        setting = self.setting
        schedule = replace(self.schedule, steps=self.params.data_free)
        with self.student.turn():  # so that the first method finds the parameters that are to be trained
            self.begun = self.first(replace(setting, schedule=schedule), self.params.model_copy(update={"schedule": None}))
        for player in self.begun.players.values():
            player.span = self.span(0)
        self.student, self.cost = self.begun.student, self.begun.cost
        self.players |= self.begun.players
        self.streams |= self.begun.streams
        self.memories |= self.begun.memories
        self.domain = self.stream(STUDENT_DOMAIN, setting.data[STUDENT_DOMAIN], self.schedule.real, self.schedule.augment)

    def phases(self) -> list[Phase]:
        """Without data, then with labels."""
        return [(self.begun.iterations, lambda _: self.begun.step()), (self.schedule.steps, self.label_step)]

    def label_step(self, number: int) -> dict[str, Tensor]:
        """One step of S on labelled examples."""
        with self.student.turn():
            if number == 0:
                self.student.restart(self.optimizer(self.student.net), self.span(1))
            batch = self.domain.next()
            with self.cost.timed("distillation"):
                loss = self.setting.kind.loss(self.student(batch["input"]), batch)
                self.student.update(loss)
        return {"label": loss.detach()}

    def samples(self, count: int) -> Tensor | None:
        """Those of the first method."""
        return self.begun.samples(count)
