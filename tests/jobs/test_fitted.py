"""Images that are moved to what a teacher remembers: their statistics, what they rank, and who can have them."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from stages.engine.teacher import Teacher
from stages.jobs.fitted import SCORE, class_agreement, fitted, ranked, some_fitted
from tests.small import images, kind, network


def distance(teacher, pixels):
    """Of the statistics of what enters each batch-norm layer from those that it remembers, by plain means."""
    found = []

    def note(norm, inputs):
        (x,) = inputs
        found.append(
            (x.mean((0, 2, 3)) - norm.running_mean).norm() + (x.var((0, 2, 3), unbiased=False) - norm.running_var).norm()
        )

    hooks = [m.register_forward_pre_hook(note) for m in teacher.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        teacher(pixels)
    for hook in hooks:
        hook.remove()
    return sum(found).item()


def remembering():
    """A teacher whose running statistics are those of smooth images."""
    torch.manual_seed(0)
    net = network("convnet_4")
    smooth = torch.nn.functional.interpolate(torch.rand(256, 1, 4, 4), 16, mode="bilinear")
    for _ in range(60):
        net.train()(smooth)
    return Teacher(net)


def test_fitted_images_have_the_statistics_that_the_teacher_remembers():
    teacher, noise = remembering(), torch.rand(200, 1, 16, 16)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    moved = fitted(teacher, noise, "fit")
    assert moved.shape == noise.shape
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert distance(teacher, moved) < 0.5 * distance(teacher, noise)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert torch.equal(fitted(teacher, noise, "fit"), moved)
    assert len(some_fitted(teacher, images(40), "fit")) == 40


def test_each_class_that_the_teacher_sees_counts_once():
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 300, 5, generator=generator)
    teacher[:, 1] += 1.5
    expected = 100 * balanced_accuracy_score(teacher.argmax(1), student.argmax(1))
    assert class_agreement(student, teacher) == pytest.approx(expected)


def test_rows_are_compared_so_where_the_pool_alone_is_there_and_the_teacher_remembers():
    teacher, bare = Teacher(network("convnet_4")), Teacher(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10)))
    of = kind()
    assert ranked(of, teacher) == "top1"
    of.measured = "pool"
    assert ranked(of, teacher) == SCORE
    assert ranked(of, bare) == "agree_pool"
    of.measured = "in_domain"
    assert ranked(of, teacher) == "agree"
