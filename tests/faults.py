"""Bits that turn round and processes that are killed: how many go unnoticed, and how many runs end otherwise. Not a test.

In checkpoints and in the tensors that stages read, bits chosen by chance are turned round: none may be read. Stages of all kinds
are killed after a random time, again and again until they are done: what they write must be what one run writes.
Usage: python -m tests.faults FLIPS KILLS
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from stages.engine.checkpoint import Checkpoint
from stages.settings.paths import Places
from stages.support.errors import UserError
from stages.support.files import read_tensors
from stages.support.progress import progress
from tests.clones import REPOSITORY
from tests.conftest import Project

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
STUDENTS = {"digits": ["kd_ood", "mosaickd", "fast", "cmi", "tessera"], "digit_scenes": ["mosaickd", "dfad"], "topics": ["asdfd"]}
LONGEST = 12.0  # seconds to a kill; to start Python takes some of them


def main(flips: int, kills: int) -> None:
    """Print the counts."""
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        project = Project(Path(folder))
        project.change("run", checkpoint_steps=1)
        for task in STUDENTS:
            for stage in ("prepare", "train_teacher", "curate"):
                _run(stage, task)
        print(f"{_flipped_checkpoints(flips)} of {flips} flips in checkpoints unnoticed")
        print(f"{_flipped_inputs(flips)} of {flips} flips in inputs unnoticed")
        print("{} kills, {} of {} runs ended otherwise".format(*_killed(kills)))


def _run(stage: str, *words: str, seconds: float | None = None) -> bool:
    """Whether it came to its end; killed after so many seconds."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *words], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        raise RuntimeError(said.decode())
    return True


def _flipped(path: Path) -> bytes:
    """Turn round one bit of a file; returns what it was."""
    good = path.read_bytes()
    place = random.randrange(8 * len(good))
    broken = bytearray(good)
    broken[place // 8] ^= 1 << place % 8
    path.write_bytes(broken)
    return good


def _flipped_checkpoints(count: int) -> int:
    checkpoint, silent = Checkpoint(Path("one")), 0
    checkpoint.save(3, {"net": torch.randn(5000), "curve": [{"step": 1, "loss": 0.5}]})
    for _ in progress(range(count), "flips in checkpoints"):
        good = _flipped(checkpoint.path)
        silent += Checkpoint(Path("one")).load() is not None
        checkpoint.path.write_bytes(good)
    return silent


def _flipped_inputs(count: int) -> int:
    files, silent = [path for top in ("data/tasks", "data/pools", "models") for path in Path(top).rglob("*.safetensors")], 0
    for _ in progress(range(count), "flips in inputs"):
        path = random.choice(files)
        good = _flipped(path)
        try:
            read_tensors(path)
            silent += 1
        except UserError:
            pass
        path.write_bytes(good)
    return silent


def _killed(count: int) -> tuple[int, int, int]:
    rows = [(task, row) for task, known in STUDENTS.items() for row in known]
    kills = runs = other = 0
    bar = progress(range(count), "kills")
    whole: dict[tuple[str, str], str] = {}
    while kills < count:
        task, row = rows[runs % len(rows)]
        file = Places(task).student(row, 0) / "weights.safetensors"
        if (task, row) not in whole:
            _run("distill", task, row, "0")
            whole[task, row] = _hash(file)
        file.unlink()
        while kills < count and not _run("distill", task, row, "0", seconds=random.uniform(1, LONGEST)):
            kills += 1
            bar.update()
        _run("distill", task, row, "0")
        runs += 1
        other += _hash(file) != whole[task, row]
    return kills, other, runs


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
