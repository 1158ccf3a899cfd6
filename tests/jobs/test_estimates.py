"""What a training is said to take, beside what it took."""

import re

import pytest

from stages import distill, plan
from stages.jobs import estimates
from stages.networks.complexity import macs
from stages.settings import params
from stages.support.errors import UserError
from stages.tools import estimate
from tests.clones import REPOSITORY
from tests.small import CPU, METHODS, method

ABOUT = {"augkd": 0.25}  # it asks T of mixtures alone, and its last iterations mix nothing


@pytest.mark.parametrize("name", METHODS)
def test_passes_of_the_teacher_are_those_of_the_whole_training(name, monkeypatch):
    monkeypatch.setattr(estimates, "MOST", 4)
    estimate = estimates.training(method(name), CPU, dict)
    run = method(name)
    for _ in range(run.iterations):
        run.step()
    assert (estimate.forwards, estimate.backwards) == pytest.approx(
        (run.teacher.forwards, run.teacher.backwards), rel=ABOUT.get(name, 0)
    )


def test_operations_are_those_of_both_networks():
    """Twice the multiply-accumulates, S's also on the way back; that does not go on to the images."""
    game = method("kd_noise")
    teacher, student = (macs(net, game.setting.kind.blank(1)) for net in (game.teacher, game.student.net))
    images = game.iterations * game.schedule.real
    assert estimates.training(game, CPU, dict).operations == pytest.approx(2 * images * (teacher + 3 * student), rel=0.1)


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ("digits", ["kd_ood", "mosaickd", "fast", "tessera", "supervised"]),
        ("digit_scenes", ["kd_ood", "supervised"]),
        ("digits-halves", ["kd_ood"]),
        ("digits-shift", ["kd_ood", "supervised_student_domain"]),
    ],
)
def test_a_task_is_estimated_before_it_is_prepared_and_after(project, task, rows):
    before = {row: estimates.student(params.load(), task, row) for row in rows}
    project.teach(task)
    after = {row: estimates.student(params.load(), task, row) for row in rows}
    for row in rows:
        if isinstance(after[row], str):
            assert before[row] == after[row]
        else:
            assert before[row][1:] == pytest.approx(after[row][1:], rel=0.05)


def test_texts_are_estimated_once_they_are_prepared(project):
    with pytest.raises(UserError, match="dvc repro prepare@topics"):
        estimates.student(params.load(), "topics", "kd_ood")
    project.teach("topics")
    assert estimates.student(params.load(), "topics", "kd_ood").seconds > 0


def test_what_is_made_is_not_left(project, capsys):
    project.change("run", tasks=["digits"], methods=["kd_ood", "augkd"], seeds=[0, 1])
    estimate.main()
    assert "student's domain" in capsys.readouterr().out
    project.teach("digits")
    distill.main("digits", "kd_ood", "0")
    lines, absent = estimate.table(params.load(), "digits")
    assert dict(zip(lines["row"], lines["left"], strict=True)) == {"teacher": 0, "kd_ood": 1}
    assert absent.keys() == {"augkd"}
    project.change("run", seeds=[0])
    lines, absent = estimate.table(params.load(), "digits")
    assert list(lines["row"]) == ["teacher"]
    assert absent["kd_ood"] == "is made"


def test_plan_says_how_long_a_student_of_large_networks_takes(project, capsys):
    plan.tell_costs(params.load(), "animals-near")
    assert "a student takes" not in capsys.readouterr().out  # at smoke scale
    project.change("run", scale="full")
    plan.tell_costs(params.load(), "cifar10-wrn")  # hours, on whatever machine
    found = re.search(
        r"cifar10-wrn: a student takes ([\d,]+) minutes here, or longer; `python -m (\S+)`", capsys.readouterr().out
    )
    assert found[1] != "0"
    assert (REPOSITORY / f"{found[2].replace('.', '/')}.py").exists()


def test_what_lies_there_of_another_form_does_not_stop_plan(project):
    project.teach("digits")
    project.change("task.digits.image", channels=3)
    assert estimates.student(params.load(), "digits", "kd_noise", few=True).seconds > 0


def test_a_few_images_stand_for_a_batch(project):
    few, all_of_it = (estimates.student(params.load(), "digits", "kd_noise", few) for few in (True, False))
    assert few[1:4] == pytest.approx(all_of_it[1:4])
