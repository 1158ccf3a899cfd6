"""What only shows with real processes: kill -9 and run again, and several ranks."""

import importlib
import os
import shutil
import subprocess
import sys

import pytest

from stages import distill, prepare
from stages.settings import paths
from stages.settings.paths import Places
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
    project.teach("digits")
    return project


CODE = """
import importlib, os, signal, sys
from stages.engine.checkpoint import Checkpoint
save, saved, (stage, saves, *words) = Checkpoint.save, [], sys.argv[1:]
def save_and_die(self, step, state):
    save(self, step, state)
    saved.append(step)
    if len(saved) == int(saves):
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.save = save_and_die
importlib.import_module(f"stages.{stage}").main(*words)
"""


def killed_and_whole(project, capsys, stage, saves, words, out, *others):
    """What a stage writes to `out` and `others` when it kills itself after so many checkpoints, and is run again.

    Then what it writes in one go, and what it said when it went on.
    """
    killed = run(project.folder, sys.executable, "-c", CODE, stage, str(saves), *words)
    assert killed.returncode == -9
    assert not out.exists()
    resumed = run(project.folder, sys.executable, "-c", CODE, stage, "0", *words)
    assert resumed.returncode == 0, resumed.stderr
    assert not list(paths.CHECKPOINTS.glob("*"))  # nothing is left behind
    interrupted = [path.read_bytes() for path in (out, *others)]
    shutil.rmtree(out.parent)
    capsys.readouterr()
    importlib.import_module(f"stages.{stage}").main(*words)
    assert "resumed" not in capsys.readouterr().err
    return interrupted, [path.read_bytes() for path in (out, *others)], resumed.stderr


def test_kill_9_and_run_again_gives_the_same_student(ready, capsys):
    """... and the same curve."""
    outs = Places("digits").student("mosaickd", 0) / "weights.safetensors", Places("digits").curve("mosaickd", 0)
    interrupted, whole, said = killed_and_whole(ready, capsys, "distill", 2, ["digits", "mosaickd", "0"], *outs)
    assert interrupted == whole
    assert "resumed at step" in said


ORPHAN = """
import importlib, os, signal, subprocess, sys
if sys.argv[1] == "parent":
    subprocess.run([sys.executable, "-c", os.environ["CODE"], "child"])
else:
    from stages.engine.checkpoint import Checkpoint
    from stages.support.errors import run_script
    save = Checkpoint.save
    def save_and_be_left(self, step, state):
        save(self, step, state)
        if step == 4:
            os.kill(os.getppid(), signal.SIGKILL)
    Checkpoint.save = save_and_be_left
    sys.argv = ["distill"]
    run_script(lambda: importlib.import_module("stages.distill").main("digits", "kd_ood", "0"))
"""


def test_a_stage_whose_launcher_was_killed_saves_and_ends(ready):
    """DVC starts the same stage again then: two would write at once."""
    environment = ENVIRONMENT | {"CODE": ORPHAN, "DVC_STAGE": "distill@digits-kd_ood-0"}
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, "parent"], cwd=ready.folder, env=environment, stderr=subprocess.PIPE)
    said = parent.stderr.read().decode()  # until the stage, which has it too, has ended
    assert parent.wait() == -9
    assert said.strip().endswith("it goes on from what was saved")
    assert not Places("digits").student("kd_ood", 0).exists()
    assert list(paths.CHECKPOINTS.glob("*/last.pt"))


def test_kill_9_in_the_second_of_several_trainings_gives_the_same_networks(ready, capsys):
    """Of teachers of parts of the classes, and of templates: those that were finished are not begun anew."""
    ready.change("task.digits-halves.ood", count=200)
    teachers = ready.section("digits-halves")["teachers"]
    ready.change("task.digits-halves", teachers=[part | {"train": part["train"] | {"epochs": 1}} for part in teachers])
    ready.change("impress", tasks=["digits"])
    prepare.main("digits-halves")
    cases = (
        ("train_teacher", 3, "digits-halves", Places("digits-halves").teacher, "teachers.0: resumed", "teachers.1: resumed"),
        ("train_templates", 6, "digits", Places("digits").template(2), "seed_1: resumed", "seed_2: resumed"),
    )
    for stage, saves, task, folder, *expected in cases:
        interrupted, whole, said = killed_and_whole(ready, capsys, stage, saves, [task], folder / "weights.safetensors")
        assert interrupted == whole
        assert all(words in said for words in expected)


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
    assert (Places("digits").student("mosaickd", 0) / "weights.safetensors").exists()
    assert Places("digits").curve("mosaickd", 0).exists()
