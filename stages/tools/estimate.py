"""What will the runs of params.yaml cost? Time of every training, here and on a GPU, the teacher's passes, and memory.

Some iterations of each row are timed and counted; nothing is written. What is prepared or trained already makes it surer.
Usage: python -m stages.tools.estimate [TASK ...]
"""

import resource
import sys
from pathlib import Path

import pandas as pd

from stages.jobs import estimates
from stages.jobs.estimates import Estimate
from stages.methods._identities import of_row
from stages.settings import params
from stages.settings.params import TEACHER, Params
from stages.settings.paths import RUN, Places
from stages.settings.plans import of_stage
from stages.support.errors import ANY, run_script
from stages.support.files import read_json
from stages.support.progress import progress

# Seconds of an H100 or H200, fitted to rows with images of 32 pixels: of a call of an operation, and of what it computes.
CALL, OPERATION = 43e-6, 1 / 12e12
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, in which the operating system counts memory


def main(*tasks: str) -> None:
    """Print a table for each task, and what all trainings take that are not made yet."""
    settings, hours = params.load(), 0.0
    for name in tasks or settings.run.tasks:
        lines, absent = table(settings, name)
        print(f"\n{name}\n{lines.to_string(index=False, float_format='{:.1f}'.format)}" if len(lines) else f"\n{name}")
        for what, why in absent.items():
            print(f"{what} {why}")
        hours += (lines["left"] * lines["minutes"]).sum() / 60 if len(lines) else 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    print(f"\n{hours:.1f} hours for what is left, one training after another; at most {peak / 1e9:.1f} GB of memory")


def table(settings: Params, name: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """A line for the teacher and for each row that runs, and what is to be said of others."""
    settings.task(name)
    found, absent = {}, {}
    stale = not _made(Places(name).teacher / RUN, "train_teacher", of_stage(settings, "train_teacher", name).identity)
    if (made := estimates.teacher(settings, name)) is None:
        absent[TEACHER] = "is not counted: how many images it learns from is known once they are prepared"
    elif made.seconds:
        found[TEACHER] = (int(stale), made)
    for row in progress(settings.run.methods, f"probe {name}"):
        if not (seeds := len(settings.run.seeds) if stale else left(settings, name, row)):
            absent[row] = "is made"
        elif isinstance(one := estimates.student(settings, name, row), Estimate):
            found[row] = (seeds, one)
        else:
            absent[row] = f"does not run: it {one}"
    return pd.DataFrame([line(row, *seen) for row, seen in found.items()]), absent


def line(row: str, left: int, one: Estimate) -> dict[str, object]:
    """What the table says of one training."""
    gpu = one.calls * CALL + one.operations * OPERATION
    return {
        "row": row,
        "left": left,
        "minutes": one.seconds / 60,
        "on a GPU": gpu / 60,
        "T fwd, k": one.forwards / 1000,
        "T bwd, k": one.backwards / 1000,
    }


def left(settings: Params, name: str, row: str) -> int:
    """How many seeds of a row are not made yet by today's code and parameters."""
    identity, runs = of_row(settings, row, name).identity, (Places(name).student(row, seed) / RUN for seed in settings.run.seeds)
    return sum(not _made(run, "distill", identity) for run in runs)


def _made(run: Path, stage: str, identity: str) -> bool:
    return run.exists() and read_json(run)["identity"][stage] == identity


if __name__ == "__main__":
    run_script(main, ANY)
