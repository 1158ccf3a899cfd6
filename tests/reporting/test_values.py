"""Which rows differ in one number alone, and the figure of what it does."""

from dataclasses import replace

import matplotlib.image
import pytest

from stages.reporting.figures import values
from stages.settings import params, paths

ROWS = {
    "mixed": {"share": {"default": 0.5, "digits": 0.25}, "tau": 4.0, "even": True},
    "mixed_none": {"of": "mixed", "share": 0.0},
    "mixed_all": {"of": "mixed", "share": 1.0},
    "mixed_sharp": {"of": "mixed", "tau": 1.0},
    "mixed_sharp_all": {"of": "mixed", "tau": 20.0, "share": 1.0},
    "mixed_as_it_comes": {"of": "mixed", "even": False},
    "other": {"share": 0.75},
}


@pytest.fixture(scope="module")
def settings():
    return replace(params.load(), rows=ROWS)


def report(**rows):
    seeds = {row: {"seeds": {str(seed): {"top1": top1} for seed, top1 in enumerate(found)}} for row, found in rows.items()}
    return {"kind": "classification", "rows": {"teacher": {"seeds": {"0": {"top1": 90.0}}}, "gone": {"seeds": {}}} | seeds}


EVERY = report(**{row: [50.0 + i, 60.0 + i] for i, row in enumerate(ROWS)})
TWO = report(mixed=[50.0], mixed_all=[60.0])


def test_tasks_of_two_kinds_have_a_panel_each(settings):
    found = values.sweeps(settings, {"digits": EVERY, "digits-noise": EVERY, "camvid-small": {**EVERY, "kind": "segmentation"}})
    tasks = [(kind, runs["task"].nunique()) for (_, _, kind), runs in found.groupby(values.PANEL)]
    assert tasks == [("classification", 2), ("segmentation", 1)]


def test_rows_that_do_not_run_are_no_sweep(settings):
    assert values.sweeps(settings, {"digits": {**TWO, "rows": {row: {"why_not": "asks for a pool"} for row in ROWS}}}).empty


def test_a_sweep_takes_rows_that_differ_in_its_number_alone(settings):
    runs = values.sweeps(settings, {"digits": EVERY, "digits-noise": TWO, "no-more": EVERY})
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
def test_the_figure_is_drawn(settings, project, reports):
    found = values.sweeps(settings, reports)
    swept = ("mixed", "mixed_none", "mixed_all") if "cifar10-small" in reports else ()
    assert set(zip(found["task"], found["method"], strict=True)) == {(task, row) for task in reports for row in swept}
    values.draw(found, dict.fromkeys(reports, "top1"))
    assert matplotlib.image.imread(paths.RESULTS / "figures" / "values.png").std() > 0.02
