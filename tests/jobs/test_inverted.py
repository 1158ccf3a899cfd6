"""Images that are inverted from a teacher to compare students: what they are like, what they rank, and who can have them."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from stages.datasets.images import to_unit
from stages.engine.teacher import Teacher
from stages.jobs.inverted import COUNT, SCORE, class_agreement, compared_by, fair, inverted
from stages.methods.bases.method import Schedule
from stages.networks.weights import Blueprint
from tests.small import CLASSES, CPU, MEAN, METHODS, STD, kind, method_class, network


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


@pytest.fixture(scope="module")
def images(teacher):
    return made(teacher)


def made(teacher, size=16):
    torch.manual_seed(torch.seed())  # whatever was drawn before
    blueprint = Blueprint("convnet_4", CLASSES, (1, size, size), MEAN[:1], STD[:1])
    return inverted((blueprint, kind(size=size), teacher), Schedule(1, 8, 16, 0.1, 0.0), CPU, "invert")


def test_inverted_images_come_near_what_the_teacher_remembers(teacher, images):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    noise = torch.rand(256, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    assert images.input.shape == (COUNT, 1, 16, 16)
    assert distance(teacher, to_unit(images.input[:256])) < 0.5 * distance(teacher, noise)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_they_are_always_the_same(teacher, images):
    assert torch.equal(images.input, made(teacher).input)


def test_nothing_is_said_of_students_that_learned_from_such_images():
    assert [name for name in METHODS if not fair(method_class(name))] == ["deepinversion"]


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
