"""Run rows of slow tasks one after another beside other work: in a clone of its own, without a commit, row by row.

A row that was made already by the code and parameters of HEAD is not made again, and one that was cut short goes on from its
checkpoint: start it again with the same words. After each row the task's results (`results/tasks`, `results/figures`) are copied
here; the cache is this folder's, so `dvc exp run` with the same rows then takes everything from it. Not a stage.
Usage: OMP_NUM_THREADS=1 python -m stages.queue TASK,TASK ROW,ROW SEED,SEED
"""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from stages.settings import params, paths
from stages.settings.params import Loader
from stages.support.errors import UserError, run_script
from stages.support.files import replacing

CLONE = Path(".queue")
GIVEN = ("packs", "raw")  # under data/: what a user brought


def main(tasks: str, rows: str, seeds: str) -> None:
    """Make every row of every task, for all seeds, with the committed code and parameters."""
    known = params.load()
    for task in tasks.split(","):
        known.task(task)
    for row in rows.split(","):
        known.method_of(row)
    if not all(seed.isdecimal() for seed in seeds.split(",")):
        raise UserError(f"seeds are whole numbers with commas between them, not '{seeds}'")
    _clone()
    for task in tasks.split(","):
        for row in rows.split(","):
            print(f"queue: {row} of {task}, seeds {seeds}", flush=True)
            for made in (paths.report(task), paths.figures(task)):
                _copy(made, CLONE / made)
            _choose(tasks=[task], methods=[row], seeds=list(map(int, seeds.split(","))))
            _run(sys.executable, "-m", "dvc", "repro", cwd=CLONE)
            for made in (paths.report(task), paths.figures(task)):
                _copy(CLONE / made, made)


def _clone() -> None:
    """A clone at this folder's HEAD; what earlier runs left in it stays, checkpoints among it."""
    here = Path.cwd()
    if not CLONE.exists():
        _run("git", "clone", "--quiet", str(here), str(CLONE))
        _run(sys.executable, "-m", "dvc", "cache", "dir", "--local", str(here / ".dvc" / "cache"), cwd=CLONE)
    _run("git", "fetch", "--quiet", str(here), "HEAD", cwd=CLONE)
    _run("git", "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD", cwd=CLONE)
    for name in GIVEN:
        mine, link = here / "data" / name, CLONE / "data" / name
        if mine.exists() and not link.exists():
            link.symlink_to(mine)


def _choose(**axes: list[str] | list[int]) -> None:
    """Say in the clone's params.yaml what runs."""
    file = CLONE / params.PARAMS
    content = yaml.load(file.read_text(), Loader)
    content["run"] |= axes
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.exists():
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)


def _run(*command: str, cwd: Path | None = None) -> None:
    if (status := subprocess.run(command, cwd=cwd, check=False).returncode) != 0:
        raise UserError(f"`{' '.join(command[-3:])}` failed with {status}; mend what it says above and start the queue again")


if __name__ == "__main__":
    run_script(main, "tasks", "rows", "seeds")
