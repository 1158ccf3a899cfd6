"""The stages one after another without DVC: nothing is made twice, and time that is over leaves something to go on from."""

import json
import sys

import pytest

from stages.support.errors import UserError
from stages.support.processes import call
from stages.tools import run as script
from tests.clones import clone, commit, run


def test_rows_are_made_once_and_reported(tmp_path):
    """Where one's loss is not finite, what is finished is reported all the same; what is there is not made again."""
    folder = clone(tmp_path / "project", methods=["mosaickd"], seeds=[5], scale="smoke")
    with (folder / "tasks/variants.yaml").open("a") as file:
        file.write("wild: {of: kd_ood, schedule: {lr: 1e30}}\n")
    commit(folder)
    before, head = (folder / "params.yaml").read_text(), run(folder, "git", "rev-parse", "--short=9", "HEAD").strip()
    with pytest.raises(AssertionError, match="a loss is not finite"):
        started(folder, "kd_ood,wild", "0", "60")
    found = rows(folder)
    assert {row: sorted(known["seeds"]) for row, known in found.items()} == {"teacher": ["0"], "kd_ood": ["0"]}
    assert {found[row]["seeds"]["0"]["made"]["revision"] for row in found} == {head}
    assert (folder / "results" / "smoke" / "table.md").exists()
    assert (folder / "params.yaml").read_text() == before
    with pytest.raises(AssertionError, match="a loss is not finite") as failed:
        started(folder, "wild", "0", "60")
    assert all(f"{stage} digits is made already" in str(failed.value) for stage in ("prepare", "train_teacher", "curate"))
    assert rows(folder) == found


def test_without_time_nothing_begins(tmp_path):
    folder = clone(tmp_path / "project", methods=["kd_ood"], seeds=[0], scale="smoke")
    assert "the time is over before prepare is; run the same words again" in started(folder, "kd_ood", "0", "0")
    assert not (folder / "data" / "tasks").exists()


def test_a_command_whose_time_is_over_is_asked_to_end_and_waited_for(tmp_path):
    """It answers SIGTERM by writing a file; one that is not asked ends by itself."""
    waits = 'trap "touch saved; exit 3" TERM; while :; do sleep 0.1; done'
    assert call("sh", "-c", waits, cwd=tmp_path, seconds=3) == 3
    assert (tmp_path / "saved").exists()
    assert call(sys.executable, "-c", "import sys; sys.exit(4)", seconds=60) == 4


def started(folder, names, seeds, minutes):
    return run(folder, sys.executable, "-m", "stages.tools.run", "digits", names, seeds, minutes)


def rows(folder):
    return json.loads((folder / "results" / "smoke" / "tasks" / "digits.json").read_text())["rows"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("digit", "kd_ood", "0", "1"), "unknown task 'digit'"),
        (("digits", "kd_odd", "0", "1"), "unknown method 'kd_odd'"),
        (("digits", "kd_ood", "x", "1"), "seeds are whole numbers"),
        (("digits", "kd_ood", "0", "soon"), "minutes are a number, not 'soon'"),
    ],
)
def test_a_wrong_word_is_named_before_anything_runs(project, words, message):
    with pytest.raises(UserError, match=message):
        script.main(*words)
    assert not script.HERE.exists()
