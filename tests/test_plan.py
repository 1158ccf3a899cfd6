"""What an edit re-runs: `dvc status` in a clone whose outputs are empty files, so nothing is trained."""

import json
import sys
from pathlib import Path

import pytest

from tests.clones import change, clone, run

ROWS = ["kd_ood", "mosaickd", "mosaickd_no_local", "mosaickd_image", "cmi"]
DISTILLED = {row: f"distill@digits-{row}-0" for row in ROWS}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Every output of the default task is there, and dvc.lock says that it is up to date."""
    folder = clone(tmp_path_factory.mktemp("plan") / "project", tasks=["digits"], methods=ROWS, seeds=[0])
    absent = {"why_not": "needs what nobody has", "made": {"identity": {}}}
    other = {"kind": "classification", "headline": "top1", "rows": {"kd_ood": absent}}  # of a task that does not run
    (folder / "results/tasks/cifar10-small.json").write_text(json.dumps(other))
    run(folder, "dvc", "init", "-q", "-f")
    run(folder, "dvc", "repro", "-q", "plan")
    folders = ["data/tasks/digits/test", "data/tasks/digits/ood", "results/runs/digits", "results/figures/digits"]
    folders += [f"models/students/digits/{row}/0" for row in ROWS]
    files = [f"{name}/file" for name in folders]
    files += [f"data/tasks/digits/splits/{name}.safetensors" for name in ("train", "val")]
    files += [f"models/teachers/digits/{name}" for name in ("weights.safetensors", "card.json", "run.json")]
    files += [f"data/pools/digits/{name}" for name in ("pool.safetensors", "summary.json")]
    files += [f"results/curves/digits/{row}/0.csv" for row in ["teacher", *ROWS]]
    files += [
        "data/tasks/digits/sources.json",
        "results/report.html",
        "results/tasks/digits.json",
        "results/table.md",
        "results/table.csv",
        "results/summary.json",
    ]
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"kind": "classification", "headline": "top1", "rows": {}}')
    run(folder, "dvc", "commit", "-q", "-f")
    assert json.loads(run(folder, "dvc", "status", "--json")) == {}
    return folder


@pytest.fixture
def project(built):
    """The clone, mended afterwards."""

    def files():
        return [*built.glob("stages/**/*.py"), *built.glob("tasks/*.yaml"), built / "params.yaml"]

    kept = {path: path.read_text() for path in files()}
    yield built
    for path in files():
        if path not in kept:
            path.unlink()
    for path, text in kept.items():
        if path.read_text() != text:
            path.write_text(text)


def changes(folder):
    """What DVC says of each stage, but of `plan`, which depends on all code."""
    return {stage: what for stage, what in json.loads(run(folder, "dvc", "status", "--json")).items() if stage != "plan"}


def changed(folder):
    """The stages that would run after stage `plan` has."""
    run(folder, sys.executable, "-m", "stages.plan")
    return set(changes(folder))


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_words_and_what_no_run_can_load_re_run_nothing(project):
    """A comment, a docstring, an error's words; a new network, kind and task; a value of a method that does not run."""
    edit(project / "stages/engine/loop.py", '"""The one training loop', '# a better comment\n"""A better sentence')
    edit(project / "stages/methods/cmi.py", '"""A fresh generator', '# a comment\n    """Another')
    edit(project / "stages/engine/loop.py", "a loss is not finite", "a loss is no number")
    edit(project / "stages/support/files.py", "exist_ok=True", "exist_ok=bool(1)")
    (project / "stages/networks/fresh.py").write_text('"""A network."""\n\nFORMS = {"fresh": "fresh"}\n')
    (project / "stages/kinds/other").mkdir()
    (project / "stages/kinds/other/__init__.py").write_text('"""A kind."""\n\nfrom stages import kinds\n\nKind = kinds.Kind\n')
    (project / "tasks/mine.yaml").write_text("mine: {of: digits, distill: {lr: 0.05}}\n")
    change(project, lambda params: params["method"]["fast"].update(lr=0.5))
    assert changed(project) == set()


def test_an_edit_of_a_method_re_runs_its_rows_alone(project):
    edit(project / "stages/methods/cmi.py", "betas=(0.5, 0.999)", "betas=(0.5, 0.99)")
    assert changed(project) == {DISTILLED["cmi"], "overview"}  # the marks of tables


def test_an_edit_of_the_loop_re_runs_every_training(project):
    edit(project / "stages/engine/loop.py", "points: int = 20", "points: int = 10")
    assert changed(project) >= {"train_teacher@digits", *DISTILLED.values()}


def test_an_edit_of_a_network_re_runs_only_what_it_is_in(project):
    edit(project / "stages/networks/wrn.py", "nn.init.zeros_(self.head.bias)", "nn.init.ones_(self.head.bias)")
    assert changed(project) == {"overview"}  # of other tasks
    edit(project / "stages/networks/discriminator.py", "0.2, inplace", "0.1, inplace")
    assert changed(project) == {DISTILLED[row] for row in ROWS if row.startswith("mosaickd")} | {"overview"}


def test_a_measure_or_a_figure_re_trains_nothing(project):
    edit(project / "stages/kinds/classification/figures.py", "rocket_r", "rocket")
    assert changed(project) == {"report@digits"}
    edit(project / "stages/kinds/classification/scores.py", "BINS = 15", "BINS = 10")
    assert changed(project) == {"evaluate@digits", "report@digits", "overview"}


def test_an_edit_of_the_tables_re_runs_the_tables(project):
    edit(project / "stages/overview.py", "round(value, 2)", "round(value, 1)")
    assert changed(project) == {"overview"}


OTHER_BYTES = {
    "models/teachers/digits/run.json": {"evaluate@digits", "report@digits"},
    "data/pools/digits/summary.json": {"report@digits"},
    "data/tasks/digits/ood/file": {"curate@digits", "report@digits"},
    "data/tasks/digits/test/file": {"evaluate@digits"},
}


def changed_dependencies(what):
    return {Path(path) for change in what if "changed deps" in change for path in change["changed deps"]}


def test_what_no_student_reads_re_trains_none(project):
    """As if an earlier stage had run again: its output has other bytes."""
    changed(project)
    for name in OTHER_BYTES:
        (project / name).write_text("{ }")
    try:
        what = changes(project)
        for name, readers in OTHER_BYTES.items():
            path = Path(name)
            assert {stage for stage, of in what.items() if {path, *path.parents} & changed_dependencies(of)} == readers
    finally:
        for name in OTHER_BYTES:
            (project / name).write_text('{"kind": "classification", "headline": "top1", "rows": {}}')


def test_every_task_has_stages_of_its_own(project):
    change(project, lambda params: params["run"].update(tasks=["digits", "digits-shift", "digit_scenes"]))
    stages = run(project, "dvc", "stage", "list", "--name-only").split()
    of = [f"{stage}@{task}" for task in ("digits", "digits-shift", "digit_scenes") for stage in ("prepare", "report")]
    assert {*of, "distill@digits-shift-cmi-0", "distill@digit_scenes-kd_ood-0"} <= set(stages)
    assert len(stages) == 2 + 3 * (5 + len(ROWS))


def test_a_value_re_runs_a_method_and_the_variants_that_inherit_it(project):
    change(project, lambda params: params["method"]["mosaickd"].update(local=0.5))
    assert changed(project) == {DISTILLED["mosaickd"], DISTILLED["mosaickd_image"], "overview"}


def test_what_methods_share_re_runs_those_that_have_it(project):
    edit(project / "tasks/digits.yaml", "generator_width: 16", "generator_width: 24")
    assert changed(project) == {DISTILLED[row] for row in ROWS if row != "kd_ood"} | {"overview"}
