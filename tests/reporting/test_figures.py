"""Figures that several rows share."""

import pandas as pd

from stages.reporting.figures import methods
from stages.settings import paths
from tests.small import kind


def test_curves_of_rows_with_many_points_and_with_one_are_drawn(project):
    """A row that takes no step stands at its start, beside rows of several seeds."""
    students = []
    for row, steps in (("initialised", [0]), ("kd_ood", [40, 80]), ("mosaickd", [10, 20])):
        for seed in range(3):
            path = paths.curve("digits", row, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame({"step": steps, "val_top1": [50.0 + seed] * len(steps)}).to_csv(path, index=False)
            students.append({"method": row, "seed": seed, "group": "made" if row == "mosaickd" else "given"})
    methods.curves("digits", kind(), pd.DataFrame(students))
    assert (paths.figures("digits") / "curves.png").stat().st_size > 5000
