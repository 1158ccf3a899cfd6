"""params.yaml has the form in which `dvc exp run -S` writes it, so that this changes what it was told to, and no more."""

import difflib
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from stages import methods
from stages.settings import params
from stages.settings.params import written_out
from stages.support.errors import UserError

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        (["run.compile=false"], []),
        (["run.checkpoint_steps=17", "task.digits.distill.lr=0.05"], ["checkpoint_steps: 17", "lr: 0.05"]),
        (["method.mosaickd.local.digits=0.7"], ["local: {default: 1.0, digits: 0.7}"]),
        (["+method.mosaickd.local.mnist=0.7"], ["local: {default: 1.0, digits: 0.1, mnist: 0.7}"]),
        (["run.tasks=[digits,digits-noise]"], ["- digits-noise"]),
    ],
)
def test_an_override_changes_its_own_lines(tmp_path, overrides, changed):
    file = tmp_path / "params.yaml"
    file.write_text(old := PARAMS.read_text())
    apply_overrides(file, overrides)
    lines = list(difflib.ndiff(old.splitlines(), file.read_text().splitlines()))
    assert [line[2:].split(" # ")[0].strip() for line in lines if line[0] == "+"] == changed
    assert sum(line[0] == "-" for line in lines) <= len(changed)


def test_an_override_of_a_task_is_followed_by_those_that_are_of_it(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS.read_text())
    apply_overrides(file, ["task.digits.distill.lr=0.05", "method.mosaickd.local.digits=0.7"])
    old, new = params.load(PARAMS), params.load(file)
    lr = {name: new.task(name).distill.lr for name in ("digits", "digits-open-odsd", "digits-shift", "digits-halves")}
    assert lr == {"digits": 0.05, "digits-open-odsd": 0.05, "digits-shift": 0.1, "digits-halves": 3e-3}  # two say their own
    assert {name for name in old.tasks if old.task(name) != new.task(name)} == {
        name for name in old.tasks if old.task(name).distill == old.task("digits").distill
    }
    local = {name: [methods.section(one, "mosaickd", name).local for one in (old, new)] for name in ("digits", "cifar10-small")}
    assert local == {"digits": [0.1, 0.7], "cifar10-small": [1.0, 1.0]}


def test_what_a_section_is_of_may_be_of_another_and_its_own_words_count():
    content = {
        "parts": {"a": {"x": 1, "y": {"of": "b"}}, "b": {"z": [{"of": "c"}]}, "c": {"w": 3}},
        "task": {"one": {"k": {"of": "a", "x": 2}, "l": 1}, "two": {"of": "one", "l": 2}, "three": {"of": "two", "k": 0}},
        "method": {"m": {"p": {"of": "c"}}, "n": {"like": "m", "q": 1}, "v": {"of": "m", "q": 2}},
    }
    assert written_out({"task": {"one": {"of": "two"}}, "parts": {"a": {}}}) == {"task": {}}  # `check` misses `method` then
    again = {"parts": {"a": {"x": 1}}, "task": {"one": {"k": {"of": "a", "y": {"of": "a"}}}}, "method": {}}
    assert written_out(again)["task"] == {"one": {"k": {"x": 1, "y": {"x": 1}}}}
    assert written_out(content) == {
        "task": {
            "one": {"k": {"x": 2, "y": {"z": [{"w": 3}]}}, "l": 1},
            "two": {"k": {"x": 2, "y": {"z": [{"w": 3}]}}, "l": 2},
            "three": {"k": 0, "l": 2},
        },
        "method": {"m": {"p": {"w": 3}}, "n": {"p": {"w": 3}, "q": 1}, "v": {"of": "m", "q": 2}},
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"task": {"one": {"k": [{"of": "aa"}]}}}, r"task\.one\.k\.0\.of: unknown parts 'aa'; .*'a'"),
        ({"task": {"one": {"of": "tow"}, "two": {}}}, r"task\.one\.of: unknown task 'tow'; .*'two'"),
        ({"task": {"one": {"of": "two"}, "two": {"of": "one"}}}, r"task\.one\.of: 'one' is of itself"),
        ({"parts": {"a": {"of": "a"}}, "task": {"one": {"k": {"of": "a"}}}}, r"task\.one\.k\.of: 'a' is of itself"),
        ({"parts": {"a": {"b": {"of": "a"}}}, "task": {"one": {"k": {"of": "a"}}}}, r"task\.one\.k\.b\.of: 'a' is of itself"),
        ({"method": {"m": {"like": "x"}}}, r"method\.m\.like: unknown method 'x'"),
        ({"task": {"one": {"of": "two"}, "two": None}}, r"task\.one\.of: 'two' is no section"),
        ({"parts": {"a": [1]}, "task": {"one": {"k": {"of": "a"}}}}, r"task\.one\.k\.of: 'a' is no section"),
        ({"parts": {1: {}}, "task": {"one": {"k": {"of": "a"}}}}, r"unknown parts 'a'; .*'1'|unknown parts 'a'"),
        ({"parts": [1]}, "parts: it is a map of sections by name"),
    ],
)
def test_a_section_that_is_of_none_or_of_itself_is_named(changed, message):
    with pytest.raises(UserError, match=message):
        written_out({"parts": {"a": {}}, "task": {}, "method": {"m": {}}} | changed)
