"""Several stages at a time: the results of `dvc repro`, what waits for what, and what a failure leaves."""

import sys

import pytest

from stages import distill
from stages.support.errors import UserError
from stages.tools import repro
from tests.clones import change, clone, commit, run

DOT = """strict digraph {
"plan";
"teach@a";
"distill@a-0";
"distill@a-1";
"report@a";
"plan" -> "teach@a";
"plan" -> "distill@a-0";
"teach@a" -> "distill@a-0";
"teach@a" -> "distill@a-1";
"distill@a-0" -> "report@a";
"distill@a-1" -> "report@a";
}
"""


def test_a_graph_says_what_each_stage_needs():
    needs = repro.order(DOT)
    assert list(needs) == ["plan", "teach@a", "distill@a-0", "distill@a-1", "report@a"]
    assert needs["distill@a-0"] == {"plan", "teach@a"}
    assert needs["report@a"] == {"distill@a-0", "distill@a-1"}
    assert repro.behind({"distill@a-0"}, needs) == {"report@a"}
    assert repro.behind({"plan"}, needs) == {"teach@a", "distill@a-0", "distill@a-1", "report@a"}


def weights(folder):
    found = sorted((folder / "models").rglob("weights.safetensors"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_two_at_a_time_give_what_one_after_another_gives(project, tmp_path):
    """Bit for bit. A row that fails holds up what is behind it and nothing else; without it DVC has nothing left to do."""
    project.teach("digits")
    for row in ("kd_ood", "mosaickd"):
        distill.main("digits", row, "0")
    one = project.folder
    two = clone(tmp_path / "two", methods=["kd_ood", "wild", "mosaickd"], seeds=[0], scale="smoke")
    with (two / "tasks/variants.yaml").open("a") as file:
        file.write("wild: {of: kd_ood, schedule: {lr: 1e30}}\n")
    commit(two)
    with pytest.raises(AssertionError, match=r"error: distill@digits-wild-0 failed, so 3 further stages did not run") as failed:
        started(two)
    assert "a loss is not finite" in str(failed.value)
    assert "distill@digits-mosaickd-0: done in" in str(failed.value)
    assert len(weights(one)) == 3
    assert weights(two) == weights(one)
    change(two, lambda params: params["run"].update(methods=["kd_ood", "mosaickd"]))
    said = started(two)
    assert "evaluate@digits: done in" in said
    assert "distill@" not in said
    assert "Data and pipelines are up to date" in run(two, "dvc", "repro")


def started(folder):
    return run(folder, sys.executable, "-m", "stages.tools.repro", "-j", "2")


def test_a_wrong_target_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(clone(tmp_path / "project", methods=["kd_ood"], seeds=[0], scale="smoke"))
    with pytest.raises(UserError, match="`dvc dag --dot prepare@digit` failed"):
        repro.main("prepare@digit")
