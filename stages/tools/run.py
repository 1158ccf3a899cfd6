"""Run a task's stages one after another where there is no DVC: a machine with a GPU and little time.

What was made of the same plan and of the same files of the stages before is not made again, and a training that was cut short
goes on from its checkpoint. After MINUTES at most, what is finished has been evaluated and reported. Not a stage, and not for
where DVC is: `dvc repro` does all this, sees a change of what you brought, and keeps what it replaces.
Usage: python -m stages.tools.run TASK ROW,ROW SEED,SEED MINUTES
"""

import hashlib
import sys
import time
from pathlib import Path

from stages.datasets.sources.shards import Source as Shards
from stages.jobs.job import open_row
from stages.networks import weights
from stages.settings import axes, params, paths, plans
from stages.settings.paths import Places
from stages.support.errors import UserError, run_script
from stages.support.files import read_json, write_json
from stages.support.processes import call

HERE = Path(".run")  # a folder whose params.yaml names what runs; all else in it is this folder's
LINKED = ("stages", "tasks", "data", "models", "results", ".cache")
DONE = HERE / "done.json"
LAST = 0.1  # of the minutes, two at most, kept for evaluation


def main(task: str, rows: str, seeds: str, minutes: str) -> None:
    """Make the teacher, then every row's students, seed after seed; then the tables of the rows that have them all."""
    settings, numbers, made, failed = params.load(), axes.seeds(seeds), list[str](), list[UserError]()
    settings.task(task)
    for row in (names := rows.split(",")):
        settings.method_of(row)
    if not minutes.replace(".", "", 1).isdecimal():
        raise UserError(f"minutes are a number, not '{minutes}'")
    end = time.monotonic() + 60 * (float(minutes) - min(2.0, LAST * float(minutes)))
    _open()
    axes.choose(params.PARAMS, HERE / params.PARAMS, [task], names, numbers)
    settings = params.load(HERE / params.PARAMS)
    _stage("plan")
    places = Places(task)
    ood = places.shards if isinstance(settings.task(task).ood, Shards) else places.split("ood")
    train, teacher, pool = places.split("train"), places.teacher, places.pool
    guide = [teacher / weights.WEIGHTS]
    for stage, inputs, outputs in (
        ("prepare", [], [train, places.split("val"), ood, places.split("test")]),
        ("train_teacher", [train], [*guide, teacher / paths.RUN]),
        ("curate", [train, ood, *guide], [pool / "pool.safetensors"]),
    ):
        identity = plans.of_stage(settings, stage, task).identity
        if not _made(end, identity, inputs, outputs, stage, task):
            print(f"the time is over before {stage} is; run the same words again")
            return
    for row in names:
        job = open_row(task, row, str(numbers[0]), settings)
        written = {seed: [places.student(row, seed) / paths.RUN] for seed in numbers}
        try:
            if all(_made(end, job.plan.identity, job.inputs, written[seed], "distill", task, row, str(seed)) for seed in numbers):
                made.append(row)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failed.append(error)
    if made:
        if made != names:
            axes.choose(params.PARAMS, HERE / params.PARAMS, [task], made, numbers)
            _stage("plan")
        _stage("evaluate", task)
        _stage("report", task)
        _stage("overview")
    if failed:
        raise failed[0]
    if left := [row for row in names if row not in made]:
        print(f"the time is over; run the same words again for {', '.join(left)}")


def _open() -> None:
    HERE.mkdir(exist_ok=True)
    for name in LINKED:
        Path(name).mkdir(exist_ok=True)
        if not (HERE / name).is_symlink():
            (HERE / name).symlink_to(Path("..") / name)


def _made(end: float, identity: str, inputs: list[Path], outputs: list[Path], stage: str, *words: str) -> bool:
    """Whether a stage has been run on these `words`, before or now; False where its time was over."""
    name = " ".join([stage, *words])
    if all(path.exists() for path in outputs) and _known().get(name) == _stamp(identity, [*inputs, *outputs]):
        print(f"{name} is made already")
        return True
    if (seconds := end - time.monotonic()) <= 0 or not _stage(stage, *words, seconds=seconds):
        return False
    write_json(DONE, {**_known(), name: _stamp(identity, [*inputs, *outputs])})
    return True


def _known() -> dict[str, str]:
    return read_json(DONE) if DONE.exists() else {}


def _stamp(identity: str, read: list[Path]) -> str:
    digest = hashlib.sha256(identity.encode())
    for path in read:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _stage(stage: str, *words: str, seconds: float | None = None) -> bool:
    """Run a stage; False where it was ended after `seconds`. Raises UserError where it fails."""
    print(" ".join(["run:", stage, *words]), flush=True)
    begin = time.monotonic()
    status = call(sys.executable, "-m", f"stages.{stage}", *words, cwd=HERE, seconds=seconds)
    if status != 0 and (seconds is None or time.monotonic() - begin < seconds):
        raise UserError(f"stage {stage} failed with {status}; mend what it says above and start again")
    return status == 0


if __name__ == "__main__":
    run_script(main, "task", "rows", "seeds", "minutes")
