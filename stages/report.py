"""Stage `report`: means and intervals over the runs of one task, and its figures.

Usage: python -m stages.report TASK
"""

import math
from typing import Any

import pandas as pd

from stages import figures, params, paths
from stages.intervals import half_interval
from stages.params import STUDENT_DOMAIN, TEACHER, Params, method_class
from stages.support.errors import UserError, run_script
from stages.support.files import read_json, write_json

# Gains are points over these methods: blind distillation, and on the student's domain learning from its labels alone.
BASELINE, ALONE = "kd_ood", "supervised_student_domain"


def main(name: str) -> None:
    """Write the task's tables as JSON, one for each test split, and its figures."""
    settings = params.load()
    found = collect(settings, name)
    tables = {name: found.drop(columns=STUDENT_DOMAIN, errors="ignore")}
    if STUDENT_DOMAIN in found:
        shifted = pd.DataFrame(list(found[STUDENT_DOMAIN])).drop(columns="per_class")
        tables[f"{name}-{STUDENT_DOMAIN}"] = pd.concat([found[["method", "seed"]], shifted], axis=1)
    content: dict[str, Any] = {"scale": settings.run.scale, "upper_bounds": upper_bounds(settings), "tables": {}}
    for (title, runs), baseline in zip(tables.items(), (BASELINE, ALONE), strict=False):
        rows = summarise(runs, baseline).reset_index().to_dict("records")
        content["tables"][title] = [{key: None if value != value else value for key, value in row.items()} for row in rows]
    figures.draw_all(name, tables)
    write_json(paths.report(name), content)


def collect(settings: Params, task: str) -> pd.DataFrame:
    """One row a run of `task`: method, seed and its metrics; the teacher first."""
    rows = []
    for label, seed in params.runs(settings.run):
        path = paths.scores(task, label, seed) / "metrics.json"
        if not path.exists():
            raise UserError(f"{path} is missing; `dvc repro` builds it")
        rows.append({"method": label, "seed": seed, **read_json(path)})
    return pd.DataFrame(rows).drop(columns="per_class")


def summarise(runs: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """Means over seeds in the order of first appearance, with n, half the 95 % t-interval of top-1, and the gain."""
    groups = runs.drop(columns="seed").groupby("method", sort=False)
    table = groups.mean()
    table["n"] = groups.size()
    table["ci95"] = [half_interval(list(group["top1"])) for _, group in groups]
    base = table["top1"].get(baseline, math.nan)
    table["gain"] = (table["top1"] - base).where(table.index != TEACHER)
    return table


def upper_bounds(settings: Params) -> list[str]:
    """Rows that see in-domain data."""
    return [label for label in settings.run.labels if method_class(settings.method_of(label)).upper_bound]


if __name__ == "__main__":
    run_script(main, "task")
