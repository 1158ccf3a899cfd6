"""The stages one after another, as they are without DVC: tasks of several kinds, and what their tables and figures are."""

import json

import pytest

from stages import overview, plan, report
from tests.conftest import Project
from tests.tables import columns, named, rows_of

ROWS = ["kd_ood", "mosaickd", "asdfd"]
SHIFT = ["kd_ood", "supervised_student_domain", "augkd", "augkd_no_anchor"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of three tasks, reported one after another; by then a row of the first has another parameter."""
    project = Project(tmp_path_factory.mktemp("stages"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        reported(project, "digits", ROWS[:2])
        project.change("method.mosaickd", local=0.5)
        reported(project, "digits-shift", SHIFT)
        reported(project, "digit_scenes", ROWS)
        project.change("run", tasks=["digits", "digits-shift", "digit_scenes"])
        plan.main()
        overview.main()
    return project.folder


def reported(project, task, rows):
    project.change("run", tasks=[task], methods=rows)
    plan.main()
    project.score(task, rows)
    report.main(task)


def tables_of(folder):
    """The sections of table.md by their titles."""
    return {part.split("\n", 1)[0]: part for part in (folder / "results/smoke/table.md").read_text().split("### ")[1:]}


def test_tasks_stand_beside_each_other_and_what_is_older_is_marked(made):
    summary = json.loads((made / "results/smoke/summary.json").read_text())
    assert set(summary) == {"digits", "digits-shift", "digits-shift-student_domain", "digit_scenes", "cost"}
    digits = tables_of(made)["digits"]
    assert "| mosaickd ‡ " in digits
    assert "| kd_ood ‡ " not in digits


def test_a_student_domain_has_scores_and_figures_of_its_own(made):
    assert set(json.loads((made / "results/smoke/summary.json").read_text())["digits-shift"]) == {"teacher", *SHIFT}
    assert set(rows_of(tables_of(made)["digits-shift-student_domain"])) == {"teacher", *SHIFT}
    scores = json.loads((made / "results/runs/digits-shift/augkd/0/metrics.json").read_text())
    assert set(scores["student_domain"]) == {"top1", "top3", "nll", "ece", "agree", "kl", "per_class"}
    figures = {path.stem for path in (made / "results/figures/digits-shift").iterdir()}
    assert {"accuracy-student_domain", "confusion-student_domain", "samples"} <= figures
    curve = (made / "results/curves/digits-shift/augkd/0.csv").read_text().splitlines()
    assert {"adversarial", "uncertainty", "mask", "f", "val_top1"} <= set(curve[0].split(","))


def test_no_kind_of_task_has_the_columns_of_another(made):
    tables = tables_of(made)
    digits, scenes = tables["digits"], tables["digit_scenes"]
    assert {"digits, top-1 %", "digit_scenes, mIoU %"} <= set(columns(tables["Tasks beside each other"]))
    assert {"top-1 %", "top-3 %", "NLL"} <= named(digits)
    assert {"mIoU %", "pixels %"} <= named(scenes)
    assert not named(digits) & {"mIoU %", "pixels %"}
    assert not named(scenes) & {"top-1 %", "top-3 %", "NLL"}
    assert "n/a: `asdfd` needs texts." in scenes
    assert {path.stem for path in (made / "results/figures/digit_scenes").iterdir()} == {
        *("samples", "curves", "segmented", "classes", "accuracy", "diversity"),
        *("pool-scores", "pool-classes", "pool-extremes"),
    }
    scores = json.loads((made / "results/runs/digit_scenes/kd_ood/0/metrics.json").read_text())
    assert set(scores["per_class"]) == {"ground", *"0123456789"}
    curve = (made / "results/curves/digit_scenes/teacher/0.csv").read_text().splitlines()
    assert curve[0].split(",")[-1] == "val_miou"  # what `dvc plots show` draws
    assert json.loads((made / "results/smoke/summary.json").read_text())["digit_scenes"].keys() == {
        "teacher",
        "kd_ood",
        "mosaickd",
    }
