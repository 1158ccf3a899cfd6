"""What the student's size does to each method: tasks beside each other that differ in their student alone."""

from pathlib import Path

import pandas as pd

from stages.reporting.figures.panels import draw_rows, side_by_side, write
from stages.reporting.records import Reports
from stages.settings.params import TEACHER

SAME = ("prepare", "train_teacher", "curate")  # stages before the student's: the test set, the teacher, the pool


def comparable(reports: Reports) -> list[pd.DataFrame]:
    """Runs of tasks of which only the student differs, of rows that have two sizes or more: a frame for all such tasks.

    Columns: task, method, network and params of the student, headline and the teacher's score of that name.
    """
    lines = []
    for task, report in reports.items():
        headline, distill = report["headline"], report.get("distill", {})  # older reports lack it
        teacher = report["rows"].get(TEACHER, {}).get("seeds", {}).get("0", {}).get(headline)
        schedule = sorted((key, value) for key, value in distill.items() if key != "student")
        for row, known in report["rows"].items():
            for found in known.get("seeds", {}).values():
                identity = found["made"]["identity"]
                if row != TEACHER and "curate" in identity and "student" in distill and {"params", headline} <= found.keys():
                    size = {"network": distill["student"]["network"], "params": found["params"]}
                    key = repr(([identity.get(stage) for stage in SAME], schedule, headline))
                    about = {"task": task, "method": row, "headline": headline, "teacher": teacher, "key": key}
                    lines.append({**about, **size, headline: found[headline]})
    if not lines:
        return []
    runs = pd.DataFrame(lines)
    runs = runs[runs.groupby(["key", "method"])["params"].transform("nunique") > 1]
    return [group for _, group in runs.groupby("key", sort=False)]


def draw(reports: Reports, folder: Path) -> None:
    """sizes.png in `folder`: each row's headline over the student's parameters, a panel for tasks that are comparable."""
    groups = comparable(reports)
    figure, axes = side_by_side(len(groups), "no two tasks here differ in their student alone and have a row both")
    for ax, runs in zip(axes, groups, strict=True):
        headline, *teacher = [*runs["headline"].unique(), *runs["teacher"].dropna().unique()]
        draw_rows(ax, runs, "params", headline, teacher[0] if teacher else None)
        sizes = runs.drop_duplicates("params").sort_values("params")
        labels = [f"{network}\n{size:,}" for network, size in zip(sizes["network"], sizes["params"], strict=True)]
        ax.set_xticks(sizes["params"], labels, fontsize=7)
        ax.set_xlabel("parameters of the student")
        ax.set_title(f"{min(runs['task'], key=len)} and other students", fontsize=10)
    write(figure, folder, "sizes")
