"""Checkpoints of a running training: outside the stage's outputs, named by all that the run depends on."""

import hashlib
import io
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from stages.engine.runtime import Runtime
from stages.settings import paths
from stages.settings.params import Run
from stages.support.files import replacing
from stages.support.processes import alone

DIGEST = 32  # bytes of it
LAUNCHED = {"DVC_STAGE", "TORCHELASTIC_RUN_ID"}  # variables of those that start stages


def key(identity: str, seed: int, runtime: Runtime, inputs: list[Path]) -> str:
    """A name for a training: changes with its plan's identity, seed, processes and precision, and the bytes of its inputs."""
    digest = hashlib.sha256(repr((identity, seed, runtime.world, runtime.bf16)).encode())
    for path in inputs:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


@contextmanager
def until_done(name: str, run: Run, rank: int) -> Iterator["Checkpoint"]:
    """The checkpoint of the run called `name`; removed by rank 0 when the block, which writes the outputs, ends well.

    Raises UserError where another process is at the same run.
    """
    checkpoint = Checkpoint(paths.CHECKPOINTS / name, run.checkpoint_minutes, run.checkpoint_steps)
    if rank > 0:
        yield checkpoint
        return
    checkpoint.folder.mkdir(parents=True, exist_ok=True)
    with alone(checkpoint.folder, "another process is at this very run"):
        try:
            yield checkpoint
            shutil.rmtree(checkpoint.folder, ignore_errors=True)
        finally:
            with suppress(OSError):
                checkpoint.folder.rmdir()  # where nothing was saved


@contextmanager
def interrupted() -> Iterator[Callable[[], bool]]:
    """A function that says whether Ctrl-C was pressed, or the process asked to end; a second time ends it at once.

    Under DVC or torchrun it also says so once that is gone, which would start the same run again. A signal that the process was
    started to ignore stays ignored.
    """
    parent = os.getppid() if LAUNCHED & os.environ.keys() else None
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    asked = False

    def note(number: int, _: Any) -> None:
        nonlocal asked
        asked = True
        for each, handler in before.items():
            signal.signal(each, handler)
        # Not print: a signal may come while a progress bar writes to the same buffer.
        os.write(2, b"interrupted: finishing this step to save it; once more to leave at once\n")

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: asked or parent not in (None, os.getppid())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Checkpoint:
    """One file that is replaced every `every_minutes` or `every_steps` steps: a digest, and the state.

    The digest is of the folder's name, which is the run's, and of the state.
    `seconds` is the time that the run took so far, earlier sessions included, up to their last checkpoint.
    """

    def __init__(self, folder: Path, every_minutes: float = 2.0, every_steps: int = 5000):
        self.folder = folder
        self.path = folder / "last.pt"
        self.every_s, self.every_steps = 60 * every_minutes, every_steps
        self._saved_at, self._saved_step = time.monotonic(), 0
        self._begun, self._before = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """The seconds of training in this session and those before it."""
        return self._before + time.monotonic() - self._begun

    def due(self, step: int) -> bool:
        """Whether it is time to save again."""
        return step - self._saved_step >= self.every_steps or time.monotonic() - self._saved_at >= self.every_s

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Replace the checkpoint; a kill at any moment leaves the old one or the new one."""
        buffer = io.BytesIO()  # torch.save into a full disk would not raise an OSError
        torch.save({"step": step, "seconds": self.seconds, **state}, buffer)
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            file.write(self._digest(buffer.getbuffer()))
            file.write(buffer.getbuffer())
        self._saved_at, self._saved_step = time.monotonic(), step

    def load(self) -> dict[str, Any] | None:
        """The last state, or None where there is none. One that is not as it was written, or another run's, is passed over."""
        if not self.path.exists():
            return None
        whole = memoryview(self.path.read_bytes())
        digest, content = whole[:DIGEST], whole[DIGEST:]
        if digest != self._digest(content):
            print(f"{self.path} is damaged or another run's; starting from the beginning", file=sys.stderr)
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        self._saved_step, self._before = state["step"], state["seconds"]
        return state

    def _digest(self, content: memoryview) -> bytes:
        digest = hashlib.sha256(self.folder.name.encode())
        digest.update(content)
        return digest.digest()
