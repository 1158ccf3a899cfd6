"""Figures that several rows share."""

import pandas as pd
import pytest

from stages import report
from stages.reporting.figures import methods
from stages.reporting.figures.panels import read_predictions
from stages.settings import params
from stages.settings.paths import Places
from tests.clones import REPOSITORY
from tests.small import kind


def test_curves_of_rows_with_many_points_and_with_one_are_drawn(project):
    """A row that takes no step stands at its start, beside rows of several seeds."""
    students = []
    Places("digits").curve("teacher", 0).parent.mkdir(parents=True)
    pd.DataFrame({"step": [10], "val_top1": [90.0]}).to_csv(Places("digits").curve("teacher", 0), index=False)
    for row, steps in (("initialised", [0]), ("kd_ood", [40, 80]), ("mosaickd", [10, 20])):
        for seed in range(3):
            path = Places("digits").curve(row, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame({"step": steps, "val_top1": [50.0 + seed] * len(steps)}).to_csv(path, index=False)
            students.append({"method": row, "seed": seed, "group": "made" if row == "mosaickd" else "given"})
    for shown in (students, students[:6]):  # rows of two groups, then of one
        methods.curves(Places("digits"), kind(), pd.DataFrame(shown))
        assert (Places("digits").figures / "curves.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("row", "images", "group"),
    [
        ("kd_in_domain", 0, 0),
        ("odsd", 0, 0),
        ("mosaickd_no_local", 48000, 1),
        ("augkd", 500, 1),
        ("fast", 900, 2),
        ("kd_noise", 0, 2),
    ],
)
def test_rows_are_grouped_by_whether_they_see_a_pool_and_make_images(row, images, group):
    settings = params.load(REPOSITORY / "params.yaml")
    assert report._group(settings, row, {"seeds": {"0": {"images": 0}, "1": {"images": images}}}) == report.GROUPS[group]


def test_classes_may_be_called_as_pandas_calls_what_is_missing(tmp_path):
    table = pd.DataFrame({"actual": ["None", "NA", "null"], "predicted": ["NA", "NA", "nan"]})
    table.to_csv(tmp_path / "predictions.csv", index=False)
    pd.testing.assert_frame_equal(read_predictions(tmp_path / "predictions.csv"), table)
