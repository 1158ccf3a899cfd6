"""Figures of the report, one PNG each: pictures where people would look rather than read."""

import matplotlib

matplotlib.use("Agg")
import pandas as pd
import seaborn as sns
from stages.figures import methods, pool
from stages.params import TEACHER


def draw_all(task: str, tables: dict[str, pd.DataFrame]) -> None:
    """Draw every figure of one task. `tables` has the runs on the in-domain test split, then on the student domain's, if any.

    Each has one row a run, the teacher's first.
    """
    sns.set_theme(style="whitegrid", palette="colorblind")
    runs = next(iter(tables.values()))
    students = runs[runs["method"] != TEACHER]
    methods.samples(task, students)
    methods.curves(task, students)
    methods.diversity(task, students)
    for file, (title, scored) in zip(("predictions", "student_domain"), tables.items(), strict=False):
        suffix = "" if file == "predictions" else f"-{file}"
        methods.confusion(task, scored, title, file, suffix)
        methods.bars(task, scored, title, suffix)
    pool.scores(task)
    pool.classes(task)
    pool.extremes(task)
