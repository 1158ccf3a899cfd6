"""The pipeline as a user runs it: `dvc repro` at smoke scale in a fresh clone, then changes of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parent.parent
TOOLS = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The files that git would commit now, as a repository of their own, after `dvc repro` at smoke scale."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    names = run(REPOSITORY, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in names:
        if (REPOSITORY / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, folder / name)
    text = (folder / "params.yaml").read_text()
    for old, new in (
        ("mosaickd, dfad, dafl, zskt, dfq, deepinversion, cmi, fast]", "mosaickd, dfq, cmi]"),
        ("kd_in_domain, kd_noise, kd_ood", "kd_in_domain, kd_ood"),
        ("mosaickd: [no_local, no_balance]", "mosaickd: [no_local]"),
        ("seeds: [0, 1, 2]", "seeds: [0]"),
        ("scale: full", "scale: smoke"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "params.yaml").write_text(text)
    (folder / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(folder / "results" / "tasks", ignore_errors=True)
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "repro")
    commit(folder)
    return folder


def commit(folder):
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "-m", "test")


RUNS = ["digits-kd_in_domain-0", "digits-kd_ood-0", "digits-mosaickd-0", "digits-dfq-0", "digits-cmi-0"]
STAGES = [
    "prepare@digits",
    "train_teacher@digits",
    "curate@digits",
    *(f"distill@{run}" for run in RUNS),
    "ablate_mosaickd@digits-no_local-0",
    "evaluate@digits",
    "report@digits",
    "overview",
]


def test_stage_names_are_what_people_type(clone):
    assert run(clone, "dvc", "stage", "list", "--name-only").split() == STAGES


def test_the_table_has_a_row_for_every_method(clone):
    table = (clone / "results/table.md").read_text()
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")][2:]
    assert rows == ["teacher", "kd_in_domain †", "kd_ood", "mosaickd", "dfq", "cmi", "mosaickd_no_local"]
    assert "Smoke scale" in table
    summary = json.loads((clone / "results/summary.json").read_text())
    assert set(summary["digits"]) == {"teacher", "kd_in_domain", "kd_ood", "mosaickd", "dfq", "cmi", "mosaickd_no_local"}
    cost = {"images", "forwards", "backwards", "synthesis_s", "distillation_s"}
    assert set(summary["cost"]["digits"]["cmi"]) == cost
    scores = json.loads((clone / "results/runs/digits/mosaickd/0/metrics.json").read_text())
    expected = {"top1", "nll", "ece", "agree", "kl", "params", "macs", "kb", "ms", "per_class", "fd", "spread", *cost}
    assert set(scores) == expected
    figures = {path.stem for path in (clone / "results/figures/digits").iterdir()}
    pool = {"pool-scores", "pool-classes", "pool-extremes"}
    assert figures == {"samples", "curves", "confusion", "accuracy", "diversity"} | pool


def test_git_sees_only_what_people_read(clone):
    tracked = run(clone, "git", "ls-files", "data", "models", "results").split()
    assert [name for name in tracked if name.endswith((".safetensors", ".csv"))] == ["results/table.csv"]


def test_a_second_repro_does_nothing_and_a_method_is_alone_in_its_changes(clone):
    assert "Data and pipelines are up to date." in run(clone, "dvc", "repro")
    method = clone / "stages/methods/kd_ood.py"
    before = method.read_text()
    method.write_text(before + "# a change\n")
    status = json.loads(run(clone, "dvc", "status", "--json"))
    assert set(status) == {"distill@digits-kd_ood-0"}
    method.write_text(before)
    mosaic = clone / "stages/methods/mosaickd.py"
    mosaic.write_text(mosaic.read_text() + "\n")
    status = json.loads(run(clone, "dvc", "status", "--json"))
    assert set(status) == {"distill@digits-mosaickd-0", "ablate_mosaickd@digits-no_local-0"}
    run(clone, "git", "checkout", "-q", "stages")


def test_the_lock_names_the_command_and_not_the_launcher(clone):
    lock = yaml.safe_load((clone / "dvc.lock").read_text())
    assert lock["stages"]["distill@digits-mosaickd-0"]["cmd"] == "${LAUNCH:-python} -m stages.distill digits mosaickd 0"


def test_an_experiment_changes_one_method_and_can_be_compared(clone):
    out = run(clone, "dvc", "exp", "run", "-n", "weaker", "-S", "method.mosaickd.local=0.5")
    ran = [line.split("'")[1] for line in out.splitlines() if line.startswith("Running stage")]
    assert set(ran) == {
        "distill@digits-mosaickd-0",
        "ablate_mosaickd@digits-no_local-0",
        "evaluate@digits",
        "report@digits",
        "overview",
    }
    changed = json.loads(run(clone, "dvc", "params", "diff", "--json"))
    assert changed["params.yaml"]["method.mosaickd.local"]["new"] == 0.5
    shown = json.loads(run(clone, "dvc", "metrics", "diff", "--all", "--json"))
    assert "digits.mosaickd" in json.dumps(shown)


def test_another_task_joins_the_table_and_a_student_domain_has_its_own(clone):
    """An experiment with a student domain; what was reported of the first task stays."""
    changes = ["run.tasks=[digits-shift]", "run.methods=[kd_ood,supervised_student_domain,augkd]"]
    changes += ["run.ablations.mosaickd=[]", "run.ablations.augkd=[no_anchor]"]
    run(clone, "dvc", "exp", "run", "-n", "shift", *(word for change in changes for word in ("-S", change)))
    summary = json.loads((clone / "results/summary.json").read_text())
    assert list(summary) == ["digits-shift", "digits-shift-student_domain", "digits", "cost"]
    assert list(summary["digits-shift"]) == ["teacher", "kd_ood", "supervised_student_domain", "augkd", "augkd_no_anchor"]
    table = (clone / "results/table.md").read_text()
    beside = table.split("###")[1]
    assert [line.split("|")[1].strip() for line in beside.splitlines() if line.startswith("|")][2:] == list(
        summary["digits-shift"]
    )
    scores = json.loads((clone / "results/runs/digits-shift/augkd/0/metrics.json").read_text())
    assert set(scores["student_domain"]) == {"top1", "nll", "ece", "agree", "kl", "per_class"}
    figures = {path.stem for path in (clone / "results/figures/digits-shift").iterdir()}
    assert {"accuracy-student_domain", "confusion-student_domain", "samples"} <= figures
    curve = (clone / "results/curves/digits-shift/augkd/0.csv").read_text().splitlines()
    assert {"adversarial", "uncertainty", "mask", "f", "val_top1"} <= set(curve[0].split(","))
