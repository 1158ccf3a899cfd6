"""What one number of a method does: variants that differ in it alone, task by task."""

from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from stages.reporting import tables
from stages.reporting.records import Reports
from stages.settings import paths
from stages.settings.params import Params
from stages.support.files import replacing

LEAST = 3  # values, of which a task has runs
WIDE = 2  # panels beside each other


@dataclass
class Sweep:
    """Runs by `task` and `value` of the parameter `key` of `method`; tasks of one kind, so of one score."""

    method: str
    key: str
    kind: str
    runs: list[pd.DataFrame] = field(default_factory=list)


def sweeps(params: Params, reports: Reports) -> list[Sweep]:
    """Every number of every method, of which a task has runs with three values or more, all else as in the method's own row."""
    found: dict[tuple[str, str, str], Sweep] = {}
    for task, report in reports.items():
        if task not in params.tasks:
            continue
        rows = [row for row in report["rows"] if row in params.rows]
        runs = tables.runs({row: report["rows"][row] for row in rows})
        for method in dict.fromkeys(map(params.method_of, rows)):
            for key, values in _alone(params, method, task, rows).items():
                known = runs.assign(value=runs["method"].map(values), task=task).dropna(subset="value") if len(runs) else runs
                if len(known) and known["value"].nunique() >= LEAST:
                    place = method, key, report["kind"]
                    found.setdefault(place, Sweep(*place)).runs.append(known)
    return list(found.values())


def _alone(params: Params, method: str, task: str, rows: list[str]) -> dict[str, dict[str, float]]:
    """Of each number in which alone a variant differs from its method: row -> value, the method's own row among them."""
    own, found = params.values(method, task), dict[str, dict[str, float]]()
    for row in rows:
        if row == method or params.method_of(row) != method:
            continue
        values = params.values(row, task)
        changed = [key for key in values if values[key] != own.get(key)]
        if len(changed) == 1 and _number(value := values[key := changed[0]]) and _number(own.get(key)):
            found.setdefault(key, {method: own[key]})[row] = value
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def draw(params: Params, reports: Reports, headlines: dict[str, str]) -> set[tuple[str, str]]:
    """results/figures/values.png: a panel for each of `sweeps`, with the headline of its tasks over the value.

    Mean and range over seeds; values as params.yaml has them now. Returns the tasks and rows that stand in it.
    """
    found = sweeps(params, reports)
    down = max(1, -(-len(found) // WIDE))
    figure, axes = plt.subplots(down, WIDE, figsize=(5.5 * WIDE, 4.2 * down), squeeze=False, layout="constrained")
    for ax in axes.flat[len(found) :]:
        ax.axis("off")
    for ax, sweep in zip(axes.flat, found, strict=False):
        runs = pd.concat(sweep.runs, ignore_index=True)
        headline = headlines[runs["task"].iloc[0]]
        # Values at equal distances, for they may be 1, 4, 20 as well as 0, 0.5, 1.
        order = sorted(runs["value"].unique())
        places = runs.assign(place=runs["value"].map({value: i for i, value in enumerate(order)}))
        sns.lineplot(
            places, x="place", y=headline, hue="task", style="task", markers=True, dashes=False, errorbar=("pi", 100), ax=ax
        )
        ax.set_xticks(range(len(order)), [f"{value:g}" for value in order])
        ax.set(xlabel=f"{sweep.key}, as params.yaml has it now", ylabel=f"{headline} on test, %", title=sweep.method)
        ax.legend(title=None, fontsize=8)
    if not found:
        axes[0, 0].text(0.5, 0.5, "no method has three values of one number here", ha="center")
    with replacing(paths.RESULTS / "figures" / "values.png") as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    plt.close(figure)
    return {pair for sweep in found for runs in sweep.runs for pair in zip(runs["task"], runs["method"], strict=True)}
