"""The queue: rows of slow tasks in a clone of their own."""

import json
import sys

import pytest

from stages import queue
from stages.support.errors import UserError
from tests.clones import clone, commit, run


def test_a_queue_makes_rows_beside_other_work_and_goes_on(tmp_path):
    """Two rows, one after another; then a third beside them. No commit; what was made is not made again."""
    folder = clone(tmp_path / "project", methods=["mosaickd"], seeds=[0], scale="smoke")
    commit(folder)
    head = run(folder, "git", "rev-parse", "HEAD")
    first = run(folder, sys.executable, "-m", "stages.queue", "digits", "kd_ood,kd_noise", "0")
    assert "Running stage 'train_teacher@digits'" in first
    report = folder / "results" / "tasks" / "digits.json"
    rows = json.loads(report.read_text())["rows"]
    assert {row: sorted(known["seeds"]) for row, known in rows.items()} == {
        "teacher": ["0"],
        "kd_ood": ["0"],
        "kd_noise": ["0"],
    }
    assert run(folder, "git", "rev-parse", "HEAD") == head
    changed = run(folder, "git", "status", "--porcelain").split()[1::2]
    assert changed
    assert all(name.startswith("results/") for name in changed)

    content = json.loads(report.read_text())
    content["rows"]["fast"] = content["rows"]["kd_noise"]  # what other work here has reported meanwhile
    report.write_text(json.dumps(content))
    second = run(folder, sys.executable, "-m", "stages.queue", "digits", "kd_ood,kd_in_domain", "0")
    ran = [line.split("'")[1] for line in second.splitlines() if line.startswith("Running stage")]
    assert [name for name in ran if name.startswith(("train_teacher", "distill"))] == ["distill@digits-kd_in_domain-0"]
    assert set(json.loads(report.read_text())["rows"]) == {*rows, "kd_in_domain", "fast"}
    made = json.loads(report.read_text())["rows"]["kd_in_domain"]["seeds"]["0"]["made"]
    assert made["revision"] == run(folder, "git", "rev-parse", "--short=9", "HEAD").strip()

    # This folder then has everything in its cache.
    third = run(folder, "dvc", "exp", "run", "-S", "run.methods=[kd_ood,kd_noise,kd_in_domain]", "-S", "run.seeds=[0]")
    assert "Running stage 'distill" not in third
    assert "Running stage 'train_teacher" not in third


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("digit", "kd_ood", "0"), "unknown task 'digit'; did you mean 'digits'"),
        (("digits", "kd_odd", "0"), "unknown method 'kd_odd'; did you mean 'kd_ood'"),
        (("digits", "kd_ood", "a"), "seeds are whole numbers"),
    ],
)
def test_a_wrong_word_is_named_before_anything_is_cloned(project, words, message):
    with pytest.raises(UserError, match=message):
        queue.main(*words)
    assert not queue.CLONE.exists()
