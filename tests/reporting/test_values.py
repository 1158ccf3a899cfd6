"""Which rows differ in one number alone, and the figure of what it does."""

import matplotlib.image
import pytest

from stages.reporting.figures import values
from stages.settings import paths

MIXED = {"share": 0.25, "tau": 4.0, "even": True}
ROWS = {
    "mixed": ("mixed", MIXED),
    "mixed_none": ("mixed", {**MIXED, "share": 0.0}),
    "mixed_all": ("mixed", {**MIXED, "share": 1.0}),
    "mixed_sharp": ("mixed", {**MIXED, "tau": 1.0}),
    "mixed_sharp_all": ("mixed", {**MIXED, "tau": 20.0, "share": 1.0}),
    "mixed_as_it_comes": ("mixed", {**MIXED, "even": False}),
    "other": ("other", {"share": 0.75}),
}


def swept(reports, unknown=()):
    """The sweeps of tasks, but for those that today's catalogue has not."""
    known = {task: {row: ROWS[row] for row in one["rows"] if row in ROWS} for task, one in reports.items() if task not in unknown}
    return values.sweeps(known, reports)


def report(**rows):
    def seeds(*found):
        return {"seeds": {str(seed): {"top1": top1, "made": {}} for seed, top1 in enumerate(found)}}

    known = {"teacher": seeds(90.0), "gone": seeds()} | {row: seeds(*found) for row, found in rows.items()}
    return {"kind": "classification", "headline": "top1", "rows": known}


EVERY = report(**{row: [50.0 + i, 60.0 + i] for i, row in enumerate(ROWS)})
TWO = report(mixed=[50.0], mixed_all=[60.0])


def test_tasks_of_two_scores_have_a_panel_each():
    found = swept({"digits": EVERY, "digits-noise": EVERY, "camvid-small": {**EVERY, "headline": "miou"}})
    tasks = [(score, runs["task"].nunique()) for (_, _, score), runs in found.groupby(values.PANEL)]
    assert tasks == [("miou", 1), ("top1", 2)]


def test_rows_that_do_not_run_are_no_sweep():
    assert swept({"digits": {**TWO, "rows": {row: {"why_not": "asks for a pool"} for row in ROWS}}}).empty


def test_a_sweep_takes_rows_that_differ_in_its_number_alone():
    runs = swept({"digits": EVERY, "digits-noise": TWO, "no-more": EVERY}, {"no-more"})
    assert set(zip(runs["of"], runs["key"], strict=True)) == {("mixed", "share")}  # two values of tau are no sweep
    assert set(runs["task"]) == {"digits"}
    assert sorted(zip(runs["method"], runs["value"], runs["top1"], strict=True)) == [
        ("mixed", 0.25, 50.0),
        ("mixed", 0.25, 60.0),
        ("mixed_all", 1.0, 52.0),
        ("mixed_all", 1.0, 62.0),
        ("mixed_none", 0.0, 51.0),
        ("mixed_none", 0.0, 61.0),
    ]


@pytest.mark.parametrize("reports", [{"digits": EVERY, "cifar10-small": EVERY}, {"digits": TWO}])
def test_the_figure_is_drawn(project, reports):
    found = swept(reports)
    rows = ("mixed", "mixed_none", "mixed_all") if "cifar10-small" in reports else ()
    assert set(zip(found["task"], found["method"], strict=True)) == {(task, row) for task in reports for row in rows}
    values.draw(found, paths.RESULTS / "figures")
    assert matplotlib.image.imread(paths.RESULTS / "figures" / "values.png").std() > 0.02
