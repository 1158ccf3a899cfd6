"""Figures of the report, one PNG each: pictures where people would look rather than read."""

from types import ModuleType
from typing import Any

import matplotlib

matplotlib.use("Agg")
import seaborn as sns

from stages.engine.teacher import FEATURES, Teacher
from stages.reporting import tables
from stages.reporting.figures import methods, pool, space
from stages.settings.params import TEACHER
from stages.settings.paths import Places
from stages.settings.task import STUDENT_DOMAIN

sns.set_theme(style="whitegrid", palette="colorblind")


def draw_all(
    places: Places, kind: Any, teacher: Teacher, own: ModuleType, rows: dict[str, Any], groups: dict[str, str], score: str
) -> None:
    """Draw every figure of one task from the runs in `rows`, which `score` compares; `own` draws those of its kind.

    `groups` says of each student's row, in the order of drawing, which others it is like: they share a panel or a colour.
    """
    rows = {row: rows[row] for row in [TEACHER, *groups]}
    pool.scores(places)
    pool.classes(places, kind)
    own.extremes(places, kind)
    if (runs := tables.runs(rows)).empty:
        return
    runs["group"] = runs["method"].map(groups)
    students = runs[runs["method"] != TEACHER]
    own.samples(places, kind, teacher, students)
    if FEATURES in teacher.can:
        methods.diversity(places, kind, teacher, students)
    if len(students):
        methods.curves(places, kind, students)
        space.draw(places, students)
    for domain, file, suffix in ((None, "predictions", ""), (STUDENT_DOMAIN, STUDENT_DOMAIN, f"-{STUDENT_DOMAIN}")):
        scored = tables.runs(rows, domain)
        if not scored.empty and len(students):
            scored["group"] = scored["method"].map(groups)
            methods.bars(places, kind, scored, score, f"{places.task}{suffix}", suffix)
            own.predictions(places, kind, scored, f"{places.task}{suffix}", file, suffix)
