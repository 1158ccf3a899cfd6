"""What one number of a method does: variants that differ in it alone, task by task."""

from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns

from stages.reporting import tables
from stages.reporting.figures.panels import side_by_side, titled, write
from stages.reporting.records import Reports

Sections = dict[str, dict[str, tuple[str, dict[str, Any]]]]  # task -> row -> its method, and its parameters

FAR = 10  # times the least value, from which on the axis is logarithmic
LEAST = 3  # values, of which a task has runs
WIDE = 2  # panels beside each other
PANEL = ["of", "key", "headline"]  # what tasks share that stand in one


def sweeps(sections: Sections, reports: Reports) -> pd.DataFrame:
    """Runs by `task`, `method` (the row) and `value` of the number `key` of the method that the row is `of`; by `headline` apart.

    Of every number of which a task has runs with three values or more, all else as in the method's own row.
    """
    found = []
    for task, mine in sections.items():
        report = reports[task]
        if (runs := tables.runs({row: report["rows"][row] for row in mine})).empty:
            continue
        for (method, key), values in _alone(mine).items():
            known = runs.assign(value=runs["method"].map(values)).dropna(subset="value")
            if known["value"].nunique() >= LEAST:
                found.append(known.assign(task=task, of=method, key=key, headline=report["headline"]))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*PANEL, "task", "method"])


def _alone(rows: dict[str, tuple[str, dict[str, Any]]]) -> dict[tuple[str, str], dict[str, float]]:
    """By method and number in which alone a variant differs from it: row -> value, the method's own row among them."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row, (method, values) in rows.items():
        own = rows.get(method, (method, {}))[1]
        changed = [key for key in values if own and values[key] != own[key]]
        if len(changed) == 1 and _number(value := values[key := changed[0]]) and _number(own[key]):
            found.setdefault((method, key), {method: own[key]})[row] = value
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def draw(found: pd.DataFrame, folder: Path) -> None:
    """values.png in `folder`: a panel for each number in `found`, the `sweeps`, with the headline of its tasks over it.

    Mean and range over seeds; values as the catalogue has them now.
    """
    panels = list(found.groupby(PANEL, sort=False))
    figure, axes = side_by_side(len(panels), "no method has three values of one number here", WIDE, (5.5, 4.2))
    for ax, ((method, key, score), runs) in zip(axes, panels, strict=True):
        headline = str(score)
        sns.lineplot(
            runs, x="value", y=headline, hue="task", style="task", markers=True, dashes=False, errorbar=("pi", 100), ax=ax
        )
        order = sorted(runs["value"].unique())
        if order[-1] > FAR * (least := min(value for value in order if value > 0)):
            ax.set_xscale("symlog", linthresh=least) if order[0] <= 0 else ax.set_xscale("log")
        ax.set_xticks(order, [f"{value:g}" for value in order])
        ax.minorticks_off()
        ax.set(xlabel=f"{key} of {method}", ylabel=titled(headline), title=f"{method}: {key}")
        ax.legend(title=None, fontsize=8)
    write(figure, folder, "values")
