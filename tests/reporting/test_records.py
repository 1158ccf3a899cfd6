"""What is kept of earlier runs."""

import json

import pytest

from stages import report
from stages.reporting import records
from stages.settings import params, paths
from stages.settings.paths import Places
from stages.support.errors import UserError


def row(identity, *seeds, top1=50.0, scale="full", **facts):
    made = {"identity": {"distill": identity}, "scale": scale, **facts}
    return {"upper_bound": False, "seeds": {seed: {"top1": top1, "made": made} for seed in seeds}}


def test_rows_that_did_not_run_stay():
    assert records.merged({"a": row("1", "0")}, {"b": row("2", "0")}) == {"a": row("1", "0"), "b": row("2", "0")}


def test_seeds_of_the_same_making_are_joined_and_the_new_ones_win():
    joined = records.merged({"a": row("1", "0", "1")}, {"a": row("1", "1", "2", top1=60.0)})["a"]["seeds"]
    assert {seed: found["top1"] for seed, found in joined.items()} == {"0": 50.0, "1": 60.0, "2": 60.0}


def test_seeds_of_another_making_go():
    assert records.merged({"a": row("1", "0", "1")}, {"a": row("2", "1")}) == {"a": row("2", "1")}


def test_a_seed_that_came_out_the_same_to_the_bit_vouches_for_the_others():
    before, now = row("1", "0", "1", weights="a"), row("2", "1", weights="a")
    before["seeds"]["1"]["ms"], now["seeds"]["1"]["ms"] = 1.0, 2.0
    joined = records.merged({"a": before}, {"a": now})["a"]["seeds"]
    assert {seed: found["made"]["identity"]["distill"] for seed, found in joined.items()} == {"0": "2", "1": "2"}
    assert before["seeds"]["0"]["made"]["identity"]["distill"] == "1"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (row("1", "0", "1", weights="a"), row("2", "1", weights="b")),
        (row("1", "0", "1", weights="a"), row("2", "1", weights="a", top1=51.0)),  # scored otherwise
        (row("1", "0", "1"), row("2", "1")),  # digests of weights were not kept
        (row("1", "0", weights="a"), row("2", "1", weights="a")),  # none was made again
    ],
)
def test_nothing_else_vouches_for_them(before, now):
    assert records.merged({"a": before}, {"a": now})["a"]["seeds"].keys() == {"1"}


def test_seeds_of_another_teacher_go():
    """The same code may give another teacher on another machine. Of seeds from before teachers were noted nothing is known."""
    now = row("1", "1", teacher="b")
    assert records.merged({"a": row("1", "0", teacher="a")}, {"a": now}) == {"a": now}
    assert set(records.merged({"a": row("1", "0", teacher="b")}, {"a": now})["a"]["seeds"]) == {"0", "1"}
    assert set(records.merged({"a": row("1", "0")}, {"a": now})["a"]["seeds"]) == {"0", "1"}


def test_smoke_scale_has_files_of_its_own(project):
    for scale in ("full", "smoke"):
        path = Places("digits").report(scale)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"kind": "classification", "headline": "top1", "rows": {scale: row("1", "0", scale=scale)}}))
    (paths.RESULTS / "tasks" / "new.json").write_text(
        '{"kind": "classification", "headline": "top1", "rows": {}}'
    )  # of a task that ran at smoke only
    assert [list(records.everything(scale)) for scale in ("full", "smoke")] == [["digits"], ["digits"]]
    assert list(records.load("digits")["rows"]) == ["full"]
    assert list(records.load("digits", "smoke")["rows"]) == ["smoke"]


def test_a_row_that_no_longer_runs_says_why():
    absent = {"why_not": "needs images", "made": {"identity": {"distill": "1"}}}
    assert records.merged({"a": row("1", "0")}, {"a": absent}) == {"a": absent}
    assert records.merged({"a": absent}, {"a": row("1", "0")}) == {"a": row("1", "0")}
    assert records.identities(absent) == [{"distill": "1"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}", "has not the form"), ("<<<<<<< HEAD", r"is damaged \(Expecting value"), ("[1]", r"is damaged \(no JSON object")],
)
def test_a_file_of_another_form_is_named(project, text, message):
    path = Places("digits").report()
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UserError, match=rf"results/tasks/digits\.json {message}"):
        records.load("digits")
    assert path.read_text() == text


def test_a_missing_run_is_named(project):
    with pytest.raises(UserError, match=r"results/runs/digits/teacher/0/metrics\.json is missing; `dvc repro` builds it"):
        report.collect(params.load(), Places("digits"), {})
