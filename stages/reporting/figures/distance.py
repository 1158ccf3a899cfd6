"""What the distance of the pool does to each method: tasks beside each other."""

from pathlib import Path

import pandas as pd

from stages.reporting import tables
from stages.reporting.figures.panels import draw_rows, side_by_side, write
from stages.reporting.records import Reports
from stages.settings.params import TEACHER

NEXT_LINE = "\n\n"  # before every other label, for tasks may stand close to each other
APART = 1.1  # how much farther than another a pool is
BESIDE = ("made", "ms", "kb", "fd", "spread")  # what a teacher's row has beside what it answers; older rows lack some


def comparable(reports: Reports) -> list[Reports]:
    """Tasks of which only the pool differs, two or more together: one teacher and student, as many steps, a known distance.

    Teachers are one whose every score is the same: one that was trained anew, by other code, may come out as it was. Of
    tasks with pools that are equally far, as other draws of one are, the first is taken.
    """
    groups: dict[str, Reports] = {}
    for task, report in reports.items():
        seed = report["rows"].get(TEACHER, {}).get("seeds", {}).get("0", {})
        teacher = sorted((key, value) for key, value in seed.items() if key not in BESIDE)
        if teacher and "fd" in report.get("pool", {}):
            steps = sorted(report["distill"].items())
            group = groups.setdefault(repr((teacher, steps, report["pool"]["images"])), {})
            if all(_apart(report["pool"]["fd"], other["pool"]["fd"]) for other in group.values()):
                group[task] = report
    return [group for group in groups.values() if len(group) > 1]


def _apart(one: float, other: float) -> bool:
    return max(one, other) > APART * min(one, other)


def lines(group: Reports) -> pd.DataFrame:
    """Runs of the students of `group` with the `distance` of their task's pool.

    Of methods that two of the tasks have, and of variants that all have.
    """
    runs = [tables.runs(report["rows"]).assign(task=task, distance=report["pool"]["fd"]) for task, report in group.items()]
    rows = pd.concat(runs, ignore_index=True)
    rows = rows[rows["method"] != TEACHER]
    tasks = {str(row): set(mine) for row, mine in rows.groupby("method")["task"]}

    def stands(row: str) -> bool:
        variant = any("of" in report["rows"].get(row, {}) for report in group.values())
        return len(tasks[row]) >= (len(group) if variant else 2)

    return rows[rows["method"].isin(list(filter(stands, tasks)))]


def _telling(found: pd.DataFrame) -> bool:
    """Whether there is more to see than one line between two points."""
    return found["method"].nunique() > 1 or found["task"].nunique() > 2


def draw(reports: Reports, folder: Path) -> None:
    """distance.png in `folder`: each row's headline over the distance of the pool, a panel for tasks that are comparable."""
    groups = [(group, found) for group in comparable(reports) if len(found := lines(group)) and _telling(found)]
    figure, axes = side_by_side(len(groups), "no two tasks here differ in their pool alone and have a row both")
    for ax, (group, found) in zip(axes, groups, strict=True):
        first = next(iter(group.values()))
        headline = first["headline"]
        draw_rows(ax, found, "distance", headline, first["rows"][TEACHER]["seeds"]["0"][headline])
        ax.set_xlabel("Fréchet distance of the pool, in the teacher's features")
        places = {report["pool"]["fd"]: task for task, report in sorted(group.items(), key=lambda pair: pair[1]["pool"]["fd"])}
        labels = [f"{NEXT_LINE * (k % 2)}{task}\n{distance:.3g}" for k, (distance, task) in enumerate(places.items())]
        ax.set_xticks(list(places), labels, fontsize=7)
        ax.set_title(f"{min(group, key=len)} and other pools", fontsize=10)
    write(figure, folder, "distance")
