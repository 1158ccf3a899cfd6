"""Seconds of each row's training on this machine, and how many steps cost as much as those of the first row.

Usage: OMP_NUM_THREADS=1 python -m tests.benchmark_steps TASK ROW,ROW STEPS [SHORT] [ROUNDS]

Runs every row for SHORT (100) steps of the student and for twice as many, after `dvc repro curate@TASK`: the difference is what
further steps cost, and what is over (a first pool of images, say) is paid once. All rows take turns for ROUNDS (2), and their
means count, for machines are not equally fast at all times. The first row takes STEPS steps; the others as many, to the next
hundred below, as fit in its seconds. Loading and measuring is left out. For tasks that are named `...-equal` in params.yaml.
"""

import math
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from stages import methods
from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint
from stages.engine.loop import train
from stages.jobs.setup import open_setting
from stages.methods.bases.method import Rescheduled
from stages.settings import params
from stages.settings.paths import Places


def seconds(name: str, row: str, steps: int) -> float:
    """Of a run of `steps` steps of the student."""
    settings = params.load()
    task, of, section = settings.task(name), methods.method_class(settings, row), methods.section(settings, row, name)
    own = (section.schedule or Rescheduled()).model_copy(update={"steps": steps})
    with rt.running(task.precision or settings.run.precision, False) as runtime, tempfile.TemporaryDirectory() as folder:
        setting, _ = open_setting(Places(name), task, of, 0, runtime)
        method = of(setting, section.model_copy(update={"schedule": own}))
        never = Checkpoint(Path(folder), every_minutes=math.inf, every_steps=steps + 1)
        begin = time.perf_counter()
        train(method, runtime, 0, never, dict, f"{row}, {steps} steps")
        return time.perf_counter() - begin


def main(name: str, rows: str, steps: str, short: str = "100", rounds: str = "2") -> None:
    """Print a table of Markdown."""
    n, found = int(short), []
    for turn in range(int(rounds)):
        for row in rows.split(","):
            seconds(name, row, 10)  # warm
            one, two = seconds(name, row, n), seconds(name, row, 2 * n)
            found.append({"row": row, "ms a step": 1000 * (two - one) / n, "s once": max(0.0, 2 * one - two)})
            print(turn, found[-1], file=sys.stderr, flush=True)
    table = pd.DataFrame(found).groupby("row", sort=False).mean()
    budget = table["s once"].iloc[0] + int(steps) * table["ms a step"].iloc[0] / 1000
    table[f"steps in {budget:.0f} s"] = ((budget - table["s once"]) / table["ms a step"] * 10 + 1e-6).astype(int) * 100
    print(table.round(1).to_markdown())


if __name__ == "__main__":
    main(*sys.argv[1:])
