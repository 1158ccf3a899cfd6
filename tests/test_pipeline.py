"""The pipeline as a user runs it: `dvc repro` of a tiny task in a fresh clone, then changes of it."""

import json
import sys

import pytest
import yaml

from tests.clones import clone as clone_of
from tests.clones import commit, run, shrink
from tests.tables import rows_of

ROWS = ["kd_in_domain", "mosaickd", "augkd"]  # the last needs what the task has not
COST = {"steps", "images", "forwards", "backwards", "synthesis_s", "distillation_s"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone after `dvc repro`."""
    folder = clone_of(tmp_path_factory.mktemp("clone") / "project", methods=ROWS, seeds=[0])
    shrink(folder)
    run(folder, "dvc", "repro")
    commit(folder)
    return folder


def test_stage_names_are_what_people_type(clone):
    stages = ["prepare@digits", "train_teacher@digits", "curate@digits", *(f"distill@digits-{row}-0" for row in ROWS)]
    assert run(clone, "dvc", "stage", "list", "--name-only").split() == [
        "plan", *stages, "evaluate@digits", "report@digits", "overview",
    ]  # fmt: skip


def test_the_table_has_a_row_for_every_method_and_says_what_does_not_run(clone):
    table = (clone / "results/table.md").read_text()
    assert list(rows_of(table)) == ["teacher", "kd_in_domain †", "mosaickd", "augkd"]
    assert "n/a: `augkd` needs labelled examples of the student's domain" in table
    summary = json.loads((clone / "results/summary.json").read_text())
    assert set(summary["digits"]) == {"teacher", *ROWS} - {"augkd"}
    assert set(summary["cost"]["digits"]["mosaickd"]) == COST | {"seeds"}
    scores = json.loads((clone / "results/runs/digits/mosaickd/0/metrics.json").read_text())
    numbers = {
        "top1",
        "top3",
        "nll",
        "ece",
        "agree",
        "kl",
        "params",
        "macs",
        "kb",
        "ms",
        "tested",
        "per_class",
        "spread",
        *COST,
    }  # fewer images than features
    assert set(scores) == {*numbers, "made"}
    figures = {path.stem for path in (clone / "results/figures/digits").iterdir()}
    pool = {"pool-scores", "pool-classes", "pool-extremes"}
    assert figures == {"samples", "curves", "confusion", "accuracy", "diversity"} | pool


def test_every_seed_says_how_it_was_made(clone):
    rows = json.loads((clone / "results/tasks/digits.json").read_text())["rows"]
    made = rows["kd_in_domain"]["seeds"]["0"]["made"]
    assert set(made) == {
        "identity",
        "scale",
        "revision",
        "versions",
        "device",
        "processes",
        "precision",
        "seconds",
        "schedule",
        "weights",
        "teacher",
    }
    assert made["teacher"] == rows["teacher"]["seeds"]["0"]["made"]["weights"]
    assert set(made["identity"]) == {"prepare", "train_teacher", "curate", "distill", "evaluate"}
    teacher = rows["teacher"]["seeds"]["0"]["made"]["identity"]
    assert teacher["train_teacher"] == made["identity"]["train_teacher"]
    assert rows["augkd"]["made"]["identity"]["distill"]
    for stage, name in (("prepare", "prepare"), ("curate", "curate"), ("distill", "kd_in_domain")):
        assert made["identity"][stage] == json.loads((clone / f"data/plans/digits/{name}.json").read_text())["identity"]
    assert made["identity"]["distill"] != rows["mosaickd"]["seeds"]["0"]["made"]["identity"]["distill"]


def test_git_sees_only_what_people_read(clone):
    tracked = run(clone, "git", "ls-files", "data", "models", "results").split()
    files = [name for name in tracked if name.endswith((".safetensors", ".csv"))]
    tables = [name for name in files if name.startswith(("results/impressions/", "results/past/"))]
    assert {name.rsplit("/", 1)[1] for name in tables} <= {"numbers.csv", "sets.csv"}
    assert sorted(set(files) - set(tables)) == ["results/table.csv"]


def test_a_second_repro_does_nothing(clone):
    assert "Data and pipelines are up to date." in run(clone, "dvc", "repro")


def test_the_lock_is_short_and_names_the_command_and_not_the_launcher(clone):
    text = (clone / "dvc.lock").read_text()
    lock = yaml.safe_load(text)["stages"]
    assert lock["distill@digits-mosaickd-0"]["cmd"] == "${LAUNCH:-python} -m stages.distill digits mosaickd 0"
    longest = max(len(yaml.safe_dump(lock[f"distill@digits-{row}-0"]).splitlines()) for row in ROWS)
    assert 18 * longest + (len(text.splitlines()) - len(ROWS) * longest) <= 1500  # as many students as a default run has


def test_an_experiment_changes_one_method_and_can_be_compared(clone):
    """What was reported of a row that the experiment leaves out stays, and so does its student."""
    students = {path.parent for path in clone.glob("models/students/digits/*/0/run.json")}
    assert len(students) == len(ROWS)
    changes = ["method.mosaickd.local=0.5", "run.methods=[mosaickd]"]
    out = run(clone, "dvc", "exp", "run", "-n", "weaker", *(word for change in changes for word in ("-S", change)), "overview")
    ran = [line.split("'")[1] for line in out.splitlines() if line.startswith("Running stage")]
    assert set(ran) == {"plan", "distill@digits-mosaickd-0", "evaluate@digits", "report@digits", "overview"}
    changed = json.loads(run(clone, "dvc", "params", "diff", "--json"))
    assert changed["params.yaml"]["method.mosaickd.local"]["new"] == 0.5
    shown = json.loads(run(clone, "dvc", "metrics", "diff", "--all", "--json"))
    assert "digits.mosaickd" in json.dumps(shown)
    assert set(json.loads((clone / "results/tasks/digits.json").read_text())["rows"]) == {"teacher", *ROWS}
    assert all(path.exists() for path in students)
    run(clone, "dvc", "plots", "show", "--out", "plots", "results/curves/digits/teacher/0.csv")  # by its last column


def test_no_experiment_loses_a_student(clone):
    """Of a narrower matrix: in a copy, and where one is applied. What is away comes back without training."""
    students = {path.parent for path in clone.glob("models/students/digits/*/0/run.json")}
    run(clone, "git", "checkout", "-q", "params.yaml")
    run(clone, "dvc", "exp", "run", "--temp", "-n", "away", "-S", "run.methods=[mosaickd]", "overview")
    assert all(path.exists() for path in students)
    run(clone, "dvc", "exp", "apply", "away")
    assert "2 finished students are only in DVC's cache" in run(clone, sys.executable, "-m", "stages.plan")
    run(clone, "git", "checkout", "-q", "params.yaml")
    assert "Running stage 'distill" not in run(clone, "dvc", "repro")
    assert all(path.exists() for path in students)


def test_a_task_of_ones_own_is_for_copies_once_git_knows_it(clone):
    (clone / "tasks/mine.yaml").write_text("mine: {of: digits}\n")
    plan = ["-S", "run.tasks=[mine]", "plan"]
    told = run(clone, sys.executable, "-m", "stages.plan")
    assert "git does not know tasks/mine.yaml: " in told
    assert "would not have it; commit it" in told
    with pytest.raises(AssertionError, match="unknown task 'mine'"):
        run(clone, "dvc", "exp", "run", "--temp", *plan)
    run(clone, "git", "add", "tasks/mine.yaml")
    run(clone, "dvc", "exp", "run", "--temp", *plan)
