"""Methods of several phases."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from stages.methods.bases.method import Method, Setting

Phase = tuple[int, Callable[[int], dict[str, Tensor]]]  # iterations; the step, given its number within the phase


class Phased(Method):
    """A method of several phases, one after another. How far it is is a memory of the run, so it resumes inside any of them.

    Where a phase begins, all ranks get the same running statistics: what the phase before trained stands still from here on.
    """

    def __init__(self, setting: Setting, params: Any):
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
                if number == 0:
                    for player in self.players.values():
                        player.align_ranks()
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
