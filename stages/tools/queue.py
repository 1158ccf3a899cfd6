"""Run rows of slow tasks one after another beside other work: in a clone of its own, without a commit, row by row.

A row that was made already by the code and parameters of HEAD is not made again, and one that was cut short goes on from its
checkpoint: start it again with the same words. After each row its results join `results/tasks` here; the cache is this folder's,
so `dvc exp run` with the same rows then takes everything from it, and draws the figures. Not a stage.
Usage: OMP_NUM_THREADS=1 python -m stages.tools.queue TASK,TASK ROW,ROW SEED,SEED
"""

import subprocess
import sys
from pathlib import Path

from stages.reporting import records
from stages.settings import axes, params
from stages.settings.params import TEACHER
from stages.settings.paths import Places
from stages.support.errors import UserError, run_script
from stages.support.files import read_json, write_json
from stages.support.processes import alone, call

CLONE = Path(".queue")
GIVEN = ("packs", "raw")  # under data/: what a user brought


def main(tasks: str, rows: str, seeds: str) -> None:
    """Make every row of every task, for all seeds, with the committed code and parameters."""
    known = params.load()
    for task in tasks.split(","):
        known.task(task)
    for row in rows.split(","):
        known.method_of(row)
    numbers = axes.seeds(seeds)
    CLONE.mkdir(exist_ok=True)
    with alone(CLONE, "another queue is running here"):
        _clone()
        for task in tasks.split(","):
            for row in rows.split(","):
                print(f"queue: {row} of {task}, seeds {seeds}", flush=True)
                axes.choose(CLONE / params.PARAMS, CLONE / params.PARAMS, [task], [row], numbers)
                _run(sys.executable, "-m", "dvc", "repro", cwd=CLONE)
                _join(task, row, known.run.scale)


def _clone() -> None:
    """A clone at this folder's HEAD; what earlier runs left in it stays, checkpoints among it."""
    here = Path.cwd()
    if not (CLONE / ".git").exists():
        _run("git", "clone", "--quiet", str(here), str(CLONE))
    dvc = sys.executable, "-m", "dvc", "cache", "dir"
    cache = subprocess.run(dvc, capture_output=True, text=True, check=True).stdout.strip()  # this folder's, wherever it lies
    _run(*dvc, "--local", cache, cwd=CLONE)
    _run("git", "update-index", "--no-skip-worktree", str(params.PARAMS), cwd=CLONE)
    _run("git", "fetch", "--quiet", str(here), "HEAD", cwd=CLONE)
    _run("git", "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD", cwd=CLONE)
    # What is chosen below is no change of code or parameters, which a run's revision would say.
    _run("git", "update-index", "--skip-worktree", str(params.PARAMS), cwd=CLONE)
    for name in GIVEN:
        mine, link = here / "data" / name, CLONE / "data" / name
        if mine.exists() and not link.exists():
            link.symlink_to(mine)


def _join(task: str, row: str, scale: str) -> None:
    """Bring what is known of a row, and of its teacher, here; all other rows stay."""
    here = Places(task).report(scale)
    made = read_json(CLONE / here)
    new = {name: made["rows"][name] for name in (TEACHER, row)}
    write_json(here, {**made, "rows": records.merged(records.load(task, scale)["rows"], new)})


def _run(*command: str, cwd: Path | None = None) -> None:
    if (status := call(*command, cwd=cwd)) != 0:
        raise UserError(f"`{' '.join(command[-3:])}` failed with {status}; mend what it says above and start the queue again")


if __name__ == "__main__":
    run_script(main, "tasks", "rows", "seeds")
