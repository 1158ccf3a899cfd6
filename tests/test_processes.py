"""What only shows with real processes: kill -9 and run again, and several ranks."""

import os
import subprocess
import sys

import pytest

from stages import curate, distill, prepare, train_teacher
from stages.settings import paths
from tests import two_ranks
from tests.clones import REPOSITORY

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def run(folder, *command):
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.fixture
def ready(project):
    project.change("task.digits.ood", count=200)
    project.change("task.digits.teacher.train", epochs=1)
    project.change("task.digits.distill", student_steps=60, batch=16)
    project.change("run", scale="full", checkpoint_steps=4)
    prepare.main("digits")
    train_teacher.main("digits")
    curate.main("digits")
    return project


def test_kill_9_and_run_again_gives_the_same_student(ready):
    """The process kills itself right after its second checkpoint, as a power cut would."""
    code = """
import os, signal, sys
from stages import distill
from stages.engine.checkpoint import Checkpoint
save, saved = Checkpoint.save, []
def save_and_die(self, step, state):
    save(self, step, state)
    saved.append(step)
    if len(saved) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "die":
    Checkpoint.save = save_and_die
distill.main("digits", "mosaickd", "0")
"""
    weights = paths.student("digits", "mosaickd", 0) / "weights.safetensors"
    killed = run(ready.folder, sys.executable, "-c", code, "die")
    assert killed.returncode == -9
    assert not weights.exists()
    assert len(list(paths.CHECKPOINTS.glob("*/last.pt"))) == 1
    resumed = run(ready.folder, sys.executable, "-c", code, "live")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed at step" in resumed.stderr
    interrupted = weights.read_bytes()
    curve = paths.curve("digits", "mosaickd", 0).read_text()
    assert not list(paths.CHECKPOINTS.glob("*"))  # nothing is left behind

    whole = run(ready.folder, sys.executable, "-c", code, "live")
    assert "resumed" not in whole.stderr
    assert weights.read_bytes() == interrupted
    assert paths.curve("digits", "mosaickd", 0).read_text() == curve


def test_a_checkpoint_is_not_picked_up_with_other_parameters(ready, monkeypatch):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    monkeypatch.setattr(distill, "write_curve", stop)  # dies after training, before the last output
    with pytest.raises(Stop):
        distill.main("digits", "kd_ood", "0")
    (first,) = paths.CHECKPOINTS.glob("*")
    ready.change("method.kd_ood", tau=2.0)
    with pytest.raises(Stop):
        distill.main("digits", "kd_ood", "0")
    assert len(list(paths.CHECKPOINTS.glob("*"))) == 2
    assert first.exists()


def test_two_ranks_hold_identical_networks():
    done = run(REPOSITORY, *TORCHRUN, "-m", "tests.two_ranks")
    assert done.returncode == 0, done.stderr[-3000:]
    for name in (*two_ranks.NAMES, *(f"dense {name}" for name in two_ranks.DENSE)):
        assert f"\n{name}: ranks agree" in f"\n{done.stdout}"


def test_statistics_of_a_batch_are_of_the_union_of_two_ranks():
    done = run(REPOSITORY, *TORCHRUN, "-m", "tests.union")
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("mosaickd", "dfad", "dafl", "dfq", "deepinversion", "cmi", "fast", "augkd", "odsd", "rkd", "sp"):
        assert f"{name}: two ranks are as one" in done.stdout


def test_the_launcher_runs_a_stage_on_two_ranks(ready):
    done = run(ready.folder, *TORCHRUN, "-m", "stages.distill", "digits", "mosaickd", "0")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (paths.student("digits", "mosaickd", 0) / "weights.safetensors").exists()
    assert paths.curve("digits", "mosaickd", 0).exists()
