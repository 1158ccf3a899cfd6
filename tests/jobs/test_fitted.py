"""Images that are moved towards what a teacher remembers: their statistics, what they rank, and who can have them."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from stages.datasets.examples import pack
from stages.datasets.images import to_uint8, to_unit
from stages.engine.teacher import Teacher
from stages.jobs.fitted import MOST, SCORE, class_agreement, compared_by, fitted, some_fitted
from tests.small import kind, network


def distance(teacher, pixels):
    """Of the statistics of what enters each batch-norm layer from those that it remembers, by plain means."""
    found = []

    def note(norm, inputs):
        (x,) = inputs
        for mine, theirs in ((x.mean((0, 2, 3)), norm.running_mean), (x.var((0, 2, 3), unbiased=False), norm.running_var)):
            found.append((mine - theirs).norm())

    hooks = [m.register_forward_pre_hook(note) for m in teacher.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        teacher(pixels)
    for hook in hooks:
        hook.remove()
    return sum(found).item()


@pytest.fixture(scope="module")
def teacher():
    """Its running statistics are those of smooth images."""
    torch.manual_seed(0)
    net = network("convnet_4")
    smooth = torch.nn.functional.interpolate(torch.rand(256, 1, 4, 4), 16, mode="bilinear")
    for _ in range(60):
        net.train()(smooth)
    return Teacher(net)


def noise(n):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("n", [200, 257])
def test_fitted_images_come_near_the_statistics_that_the_teacher_remembers(teacher, n):
    """257 are more than a batch: no batch is of one image, which could not be a whole domain."""
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    moved = fitted(teacher, noise(n), "fit")
    assert moved.shape == noise(n).shape
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert distance(teacher, moved[:128]) < 0.5 * distance(teacher, noise(n)[:128])
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_some_of_many_images_are_fitted_always_the_same(teacher):
    examples = pack(to_uint8(noise(MOST + 40)))
    some = some_fitted(teacher, examples, "fit")
    assert len(some) == MOST
    assert torch.equal(some.input, some_fitted(teacher, examples, "fit").input)
    assert distance(teacher, to_unit(some.input)) < 0.5 * distance(teacher, noise(MOST + 40))


def test_each_class_that_the_teacher_sees_counts_once():
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 300, 5, generator=generator)
    teacher[:, 1] += 1.5
    expected = 100 * balanced_accuracy_score(teacher.argmax(1), student.argmax(1))
    assert class_agreement(student, teacher) == pytest.approx(expected)


def test_rows_are_compared_so_where_the_pool_alone_is_there_and_one_teacher_remembers(teacher):
    bare, of = Teacher(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10))), kind()
    two = Teacher(network("convnet_4", classes=5), network("convnet_4", classes=5))
    assert compared_by(of, teacher) == "top1"
    of.measured = "pool"
    assert compared_by(of, teacher) == SCORE
    assert compared_by(of, bare) == compared_by(of, two) == "agree_pool"
    of.measured = "in_domain"
    assert compared_by(of, teacher) == "agree"
