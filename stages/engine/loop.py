"""The one training loop, for every method and for the teacher."""

import csv
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint, interrupted
from stages.engine.players import Player
from stages.engine.streams import Stream
from stages.support.errors import UserError
from stages.support.files import replacing
from stages.support.progress import progress

Point = dict[str, float]


class Memory(Protocol):
    """Something that a method carries from step to step beside its networks."""

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        ...


class Trainable(Protocol):
    """What the loop needs of a method."""

    players: dict[str, Player]
    streams: dict[str, Stream]
    memories: dict[str, Memory]

    @property
    def iterations(self) -> int:
        """Outer iterations of the whole run."""
        ...

    def step(self) -> dict[str, Tensor]:
        """One outer iteration; returns named scalars."""
        ...


def train(
    method: Trainable,
    runtime: rt.Runtime,
    seed: int,
    checkpoint: Checkpoint,
    probe: Callable[[], Point],
    what: str,
    points: int = 20,
) -> list[Point]:
    """Run all outer iterations of `method`, from its checkpoint if there is one, and return the learning curve.

    The curve has about `points` rows: the step, the mean of each scalar since the row before (or since the method's phase began),
    and what `probe` measures.
    Raises UserError at the first scalar that is not finite, and KeyboardInterrupt after a Ctrl-C, when the checkpoint is written.
    """
    total, window, curve, first = method.iterations, _Window(), [], 0
    if state := checkpoint.load():
        first, curve = state["step"], state["curve"]
        _restore(method, window, state)
        print(f"{what}: resumed at step {first} of {total}", file=sys.stderr)
    every = math.ceil(total / points)
    bar = progress(range(first, total), what, initial=first, total=total, disable=runtime.rank > 0)
    with interrupted() as stopping:
        for step in bar:
            for player in method.players.values():
                player.anneal(step / total)
            rt.seed(seed, step, runtime.rank)
            with runtime.autocast():
                scalars = method.step()
            if window.names and window.names != list(scalars):  # another phase has begun
                window.flush(checkpoint)
                window = _Window()
            window.add(step + 1, scalars)
            row_due = (step + 1) % every == 0 or step + 1 == total
            stop = stopping()
            save_due, stop = _agreed(runtime, stop or checkpoint.due(step + 1), stop)
            if row_due or save_due or window.full:
                window.flush(checkpoint)
                bar.set_postfix({name: f"{value:.3g}" for name, value in window.means().items()}, refresh=False)
            if row_due:
                curve.append({"step": step + 1, **window.means(), **probe()})
                window = _Window()
            if save_due and runtime.rank == 0:
                checkpoint.save(step + 1, _state(method, window, curve))
            if stop:
                _agreed(runtime, True)  # the others wait until rank 0 has saved: a launcher kills what outlives its peers
                raise KeyboardInterrupt
    for player in method.players.values():
        player.align_ranks()
    return curve or [{"step": 0, **probe()}]


def write_curve(path: Path, curve: list[Point]) -> None:
    """Write a learning curve as CSV, atomically; what a phase of the run does not measure stays empty.

    What was measured on validation stands last, and the headline score after all: DVC plots the last column.
    """
    names = sorted(dict.fromkeys(name for row in curve for name in row), key=lambda name: name.startswith("val_"))
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(
            {name: float(f"{value:.6g}") if name != "step" else value for name, value in row.items()} for row in curve
        )


class _Window:
    """Running means of the scalars since the last row of the curve, fetched from the device many steps at a time."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: list[float] = []
        self.count = 0
        self._pending: list[tuple[int, Tensor]] = []

    @property
    def full(self) -> bool:
        return len(self._pending) >= 50

    def add(self, step: int, scalars: dict[str, Tensor]) -> None:
        self.names = list(scalars)
        self._pending.append((step, torch.stack([value.detach().float() for value in scalars.values()])))

    def flush(self, checkpoint: Checkpoint) -> None:
        """Fetch what is pending; raises UserError that names the first step with a scalar that is not finite."""
        if not self._pending:
            return
        self.sums = self.sums or [0.0] * len(self.names)
        for (step, _), row in zip(self._pending, torch.stack([row for _, row in self._pending]).tolist(), strict=True):
            if not all(map(math.isfinite, row)):
                terms = ", ".join(f"{name}={value:.4g}" for name, value in zip(self.names, row, strict=True))
                saved = (
                    f"the last good checkpoint is {checkpoint.path}"
                    if checkpoint.path.exists()
                    else "no checkpoint was saved yet"
                )
                raise UserError(
                    f"a loss is not finite at step {step}: {terms}; {saved}. Lower a learning rate or that term's weight"
                )
            self.sums = [total + value for total, value in zip(self.sums, row, strict=True)]
            self.count += 1
        self._pending = []

    def means(self) -> Point:
        return {name: total / self.count for name, total in zip(self.names, self.sums, strict=True)}


def _agreed(runtime: rt.Runtime, *says: bool) -> list[bool]:
    """What rank 0 says: clocks differ between ranks, and not all of them may hear a signal."""
    if runtime.world == 1:
        return list(says)
    votes = torch.tensor(says, dtype=torch.float32, device=runtime.device)
    runtime.follow_first_([votes])
    return [bool(vote) for vote in votes.tolist()]


def _state(method: Trainable, window: _Window, curve: list[Point]) -> dict[str, Any]:
    return {
        "players": {name: player.state() for name, player in method.players.items()},
        "streams": {name: stream.position for name, stream in method.streams.items()},
        "memories": {name: memory.state() for name, memory in method.memories.items()},
        "window": (window.names, window.sums, window.count),
        "curve": curve,
    }


def _restore(method: Trainable, window: _Window, state: dict[str, Any]) -> None:
    for name, player in method.players.items():
        player.load(state["players"][name])
    for name, stream in method.streams.items():
        stream.seek(state["streams"][name])
    for name, memory in method.memories.items():
        memory.load(state["memories"][name])
    window.names, window.sums, window.count = state["window"]
