"""The queue: rows of slow tasks in a clone of their own."""

import json
import sys

import pytest

from stages.support.errors import UserError
from stages.tools import queue
from tests.clones import clone, commit, run


def test_a_queue_makes_rows_beside_other_work_and_goes_on(tmp_path):
    """A row; then another beside it and beside what was reported here meanwhile. No commit; nothing is made twice."""
    folder = clone(tmp_path / "project", methods=["mosaickd"], seeds=[0], scale="smoke")
    commit(folder)
    run(folder, "dvc", "cache", "dir", "--local", str(tmp_path / "cache"))  # as those have it who share one
    head = run(folder, "git", "rev-parse", "--short=9", "HEAD").strip()
    assert "Running stage 'train_teacher@digits'" in queued(folder, "kd_ood")
    report = folder / "results" / "smoke" / "tasks" / "digits.json"
    content = json.loads(report.read_text())
    assert {row: sorted(known["seeds"]) for row, known in content["rows"].items()} == {"teacher": ["0"], "kd_ood": ["0"]}
    assert run(folder, "git", "status", "--porcelain") == ""  # what smoke scale makes is not for git

    content["rows"]["fast"] = content["rows"]["kd_ood"]
    report.write_text(json.dumps(content))
    assert "Running stage 'train_teacher@digits'" not in queued(folder, "kd_noise")
    rows = json.loads(report.read_text())["rows"]
    assert set(rows) == {"teacher", "kd_ood", "fast", "kd_noise"}
    assert (
        rows["kd_noise"]["seeds"]["0"]["made"]["revision"] == head == run(folder, "git", "rev-parse", "--short=9", "HEAD").strip()
    )

    # This folder then has everything in its cache.
    again = run(folder, "dvc", "exp", "run", "-S", "run.methods=[kd_ood,kd_noise]", "evaluate@digits")
    assert "Running stage 'evaluate@digits'" in again
    assert "Running stage 'distill" not in again
    assert "Running stage 'train_teacher" not in again


def queued(folder, row):
    return run(folder, sys.executable, "-m", "stages.tools.queue", "digits", row, "0")


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
