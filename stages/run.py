"""Run a task's stages one after another where there is no DVC: a machine with a GPU and little time.

What was made of the same plan and the same bytes is not made again, and a training that was cut short goes on from its
checkpoint. After MINUTES at most, what is finished has been evaluated and reported. Not a stage, and not for where DVC is:
`dvc repro` does all this and keeps what it replaces.
Usage: python -m stages.run TASK ROW,ROW SEED,SEED MINUTES
"""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

from stages import methods
from stages.settings import axes, params, paths, plans
from stages.support.errors import UserError, run_script
from stages.support.files import read_json, write_json

HERE = Path(".run")  # a folder whose params.yaml names what runs; all else in it is this folder's
LINKED = ("stages", "data", "models", "results", ".cache")
DONE = HERE / "done.json"
LAST = 0.1  # of the minutes, two at most, kept for evaluation


def main(task: str, rows: str, seeds: str, minutes: str) -> None:
    """Make the teacher, then every row's students, seed after seed; then the tables of the rows that have them all."""
    settings, numbers, made = params.load(), axes.seeds(seeds), list[str]()
    settings.task(task)
    for row in (names := rows.split(",")):
        settings.method_of(row)
    if not minutes.replace(".", "", 1).isdecimal():
        raise UserError(f"minutes are a number, not '{minutes}'")
    end = time.monotonic() + 60 * float(minutes)
    trainings_end = end - 60 * min(2.0, LAST * float(minutes))
    _open()
    axes.choose(params.PARAMS, HERE / params.PARAMS, [task], names, numbers)
    _call(None, "plan")
    splits = [paths.split(task, name) for name in ("train", "val")]
    teacher, pool = paths.teacher(task) / "weights.safetensors", paths.pool(task) / "pool.safetensors"
    needs: dict[str, list[Path]] = {
        "prepare": [],
        "train_teacher": splits,
        "curate": [splits[0], paths.split(task, "ood"), teacher],
    }
    for stage, inputs in needs.items():
        if not _made(trainings_end, plans.of_stage(settings, stage, task).identity, inputs, stage, task):
            print(f"the time is over before {stage} is; run the same words again")
            return
    for row in names:
        identity = methods.plan(settings, row, task, methods.section(settings, row, task)).identity
        inputs = [*splits, teacher, pool]
        if all(_made(trainings_end, identity, inputs, "distill", task, row, str(seed)) for seed in numbers):
            made.append(row)
    if left := [row for row in names if row not in made]:
        print(f"the time is over; run the same words again for {', '.join(left)}")
    if made:
        axes.choose(params.PARAMS, HERE / params.PARAMS, [task], made, numbers)
        for stage in ("plan", "evaluate", "report", "overview"):
            _call(None, stage, *([] if stage in ("plan", "overview") else [task]))


def _open() -> None:
    HERE.mkdir(exist_ok=True)
    for name in LINKED:
        Path(name).mkdir(exist_ok=True)
        if not (HERE / name).is_symlink():
            (HERE / name).symlink_to(Path("..") / name)


def _made(end: float, identity: str, inputs: list[Path], stage: str, *words: str) -> bool:
    """Whether a stage has been run on these `words`, before or now; False where its time was over."""
    done = read_json(DONE) if DONE.exists() else {}
    digest = hashlib.sha256(identity.encode())
    for path in inputs:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    name, stamp = " ".join([stage, *words]), digest.hexdigest()[:16]
    if done.get(name) == stamp:
        print(f"{name} is made already")
        return True
    if time.monotonic() >= end or not _call(end, stage, *words):
        return False
    write_json(DONE, {**done, name: stamp})
    return True


def _call(end: float | None, stage: str, *words: str) -> bool:
    """Run a stage; at `end` it is interrupted, and saves its step. Raises UserError where it fails."""
    print(" ".join(["run:", stage, *words]), flush=True)
    command = [sys.executable, "-m", f"stages.{stage}", *words]
    with subprocess.Popen(command, cwd=HERE) as process:
        try:
            status = process.wait(None if end is None else max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
            return False
    if status != 0:
        raise UserError(f"stage {stage} failed with {status}; mend what it says above and start again")
    return True


if __name__ == "__main__":
    run_script(main, "task", "rows", "seeds", "minutes")
