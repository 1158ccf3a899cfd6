"""What a run spends, in the units of the report's table."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stages.engine.runtime import Runtime
from stages.engine.teacher import Teacher

Mark = float | torch.cuda.Event


class Cost:
    """Synthetic images made for the student, images through the teacher, seconds of synthesis and of distillation.

    A memory of the run: it is saved and restored with the checkpoint. Counts are of all ranks, seconds of one.
    """

    def __init__(self, teacher: Teacher, runtime: Runtime):
        self.teacher, self.runtime = teacher, runtime
        self.images = 0
        self.seconds = {"synthesis": 0.0, "distillation": 0.0}
        self._spans: list[tuple[str, Mark, Mark]] = []

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Count the time of the block to `phase`, without making a GPU wait."""
        begin = self._mark()
        yield
        self._spans.append((phase, begin, self._mark()))

    def totals(self) -> dict[str, float]:
        """images, forwards and backwards (images through the teacher), synthesis_s, distillation_s."""
        self._settle()
        counts = {"images": self.images, "forwards": self.teacher.forwards, "backwards": self.teacher.backwards}
        everywhere = {name: count * self.runtime.world for name, count in counts.items()}
        return {**everywhere, **{f"{phase}_s": seconds for phase, seconds in self.seconds.items()}}

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        self._settle()
        return {
            "images": self.images,
            "forwards": self.teacher.forwards,
            "backwards": self.teacher.backwards,
            "seconds": dict(self.seconds),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.images, self.seconds = state["images"], dict(state["seconds"])
        self.teacher.forwards, self.teacher.backwards = state["forwards"], state["backwards"]

    def _mark(self) -> Mark:
        if self.runtime.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _settle(self) -> None:
        if self.runtime.device.type == "cuda":
            torch.cuda.synchronize()
        for phase, begin, end in self._spans:
            if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
                self.seconds[phase] += begin.elapsed_time(end) / 1000
            elif isinstance(begin, float) and isinstance(end, float):
                self.seconds[phase] += end - begin
        self._spans = []
