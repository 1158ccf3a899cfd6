"""What a student starts from, and teachers that are the same."""

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages import distill, plan, prepare, train_teacher
from stages.engine import runtime as rt
from stages.jobs.setup import open_setting
from stages.methods import method_class
from stages.networks import weights
from stages.settings import params, paths
from stages.settings.paths import Places
from stages.support.errors import UserError

CPU = rt.Runtime(torch.device("cpu"))


@pytest.fixture
def ready(project):
    """A teacher and a pool of the digits task, at smoke scale; students have the teacher's network."""
    project.change("task.digits.distill", student="convnet_32")
    project.teach("digits")
    return project


def student_of(seed=0):
    settings = params.load()
    setting, blueprint = open_setting(Places("digits"), settings.task("digits"), method_class(settings, "kd_ood"), seed, CPU)
    return weights.bare(setting.student).state_dict(), blueprint


def test_a_student_starts_at_random_by_its_seed(ready):
    one, other = student_of(0)[0], student_of(1)[0]
    assert all(torch.equal(value, student_of(0)[0][key]) for key, value in one.items())
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_a_student_starts_from_a_file_but_for_its_head(ready, tmp_path):
    given = {key: torch.full_like(value, 0.25) for key, value in student_of()[0].items()}
    given["head.weight"] = torch.zeros(1000, 128)  # of other classes
    save_file(given, tmp_path / "start.safetensors")
    sha256 = hashlib.sha256((tmp_path / "start.safetensors").read_bytes()).hexdigest()
    start = {"path": str(tmp_path / "start.safetensors"), "sha256": sha256, "without": ["head"]}
    fresh = student_of()[0]
    ready.change("task.digits.distill", student={"network": "convnet_32", "weights": start})
    found, blueprint = student_of()
    assert blueprint.network == "convnet_32"
    for key, value in found.items():
        expected = fresh[key] if key.startswith("head") else given[key]
        assert torch.equal(value, expected), key

    for change, message in (
        (
            {"without": []},
            r"does not fit the network beside `tasks/digits\.yaml: digits\.distill\.student\.weights`: 'head\.weight'",
        ),
        ({"without": ["had"]}, r"student\.weights\.without: the network has no tensor whose name begins with 'had'"),
        ({"sha256": "0" * 64}, r"`tasks/digits\.yaml: digits\.distill\.student\.weights\.sha256` says 0000"),
        ({"path": "nowhere"}, r"mend `tasks/digits\.yaml: digits\.distill\.student\.weights\.path`"),
    ):
        ready.change("task.digits.distill", student={"network": "convnet_32", "weights": start | change})
        with pytest.raises(UserError, match=message):
            student_of()


def test_a_student_starts_from_layers_of_its_teacher(ready):
    teacher, fresh = load_file(Places("digits").teacher / "weights.safetensors"), student_of()[0]
    ready.change("task.digits.distill", student={"network": "convnet_32", "teacher_layers": ["features.0", "features.1"]})
    found = student_of()[0]
    for key, value in found.items():
        copied = key.startswith(("features.0.", "features.1."))
        assert torch.equal(value, (teacher if copied else fresh)[key]), key
    for layers, network, message in (
        (["fetures"], "convnet_32", "the student's network has no module 'fetures'; did you mean 'features'"),
        (["head"], "convnet_16", "'head' has another form in the teacher than in the student"),
    ):
        ready.change("task.digits.distill", student={"network": network, "teacher_layers": layers})
        with pytest.raises(UserError, match=rf"distill\.student\.teacher_layers: {message}"):
            student_of()
    ready.change("task.digits.distill", student={"network": "convnet_32", "teacher_layers": ["head"]})
    distill.main("digits", "kd_ood", "0")  # the teacher is not the student's: it is copied
    after = load_file(Places("digits").teacher / "weights.safetensors")
    assert all(torch.equal(value, after[key]) for key, value in teacher.items())


def test_a_student_starts_from_one_thing_only(ready):
    both = {"network": "convnet_32", "teacher_layers": ["head"], "weights": {"path": "a", "sha256": "0" * 64}}
    ready.change("task.digits.distill", student=both)
    with pytest.raises(UserError, match=r"distill\.student: give either `weights` or `teacher_layers`"):
        plan.main()


def test_a_teacher_that_another_task_has_made_of_the_same_is_copied(project, capsys):
    """Tasks that differ in their pools share one teacher; another parameter makes another."""
    for task in ("digits", "digits-letters"):
        prepare.main(task)
        train_teacher.main(task)
    assert "the teacher of digits is the same" in capsys.readouterr().out
    files = [(Places(task).teacher / "weights.safetensors").read_bytes() for task in ("digits", "digits-letters")]
    assert files[0] == files[1]
    project.change("task.digits-letters.teacher.train", lr=0.05)
    train_teacher.main("digits-letters")
    assert "is the same" not in capsys.readouterr().out
    assert (Places("digits-letters").teacher / "weights.safetensors").read_bytes() != files[0]


def test_one_teacher_answers_for_all_classes_and_a_term_for_each_teacher_is_one(ready):
    settings = params.load()
    setting, _ = open_setting(Places("digits"), settings.task("digits"), method_class(settings, "cfl"), 0, CPU)
    assert setting.known == [10]
    distill.main("digits", "cfl_in_domain_per_task", "0")
    assert (Places("digits").student("cfl_in_domain_per_task", 0) / paths.RUN).exists()
