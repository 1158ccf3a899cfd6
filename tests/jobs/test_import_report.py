"""What is said of a teacher that is taken wrongly, and that nothing is said of one that is taken as it was meant."""

import pytest
import torch
from torch import nn

from stages.datasets.examples import pack
from stages.jobs.import_report import below, report
from stages.kinds.classification import Kind
from stages.networks.adapter import Adapter, Interface
from stages.networks.weights import Blueprint
from tests.small import form

COLOURS = torch.tensor([[200, 60, 60], [60, 200, 60], [60, 60, 200], [200, 200, 60], [60, 200, 200], [200, 60, 200]])
NAMES = tuple("rgbyct")
MEAN, STD = [0.5, 0.45, 0.4], [0.25, 0.25, 0.25]


def labelled(n, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(classes, (n,), generator=generator)


def told(labels, k, right=0.9, seed=0):
    """Logits of a teacher that is right so often, and else says any class."""
    generator = torch.Generator().manual_seed(seed)
    other = torch.randint(k, labels.shape, generator=generator)
    said = torch.where(torch.rand(labels.shape, generator=generator) < right, labels, other)
    return 3 * nn.functional.one_hot(said, k).double() + torch.randn(len(labels), k, generator=generator).double() / 2


def lines_of(logits, labels, classes):
    """What is said of these answers to grey images, of a network that says the same whatever it sees."""
    images = pack(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), labels, classes)
    net = nn.Identity()
    net.anchor = nn.Parameter(torch.empty(0))
    blind = Blueprint("net", classes, (1, 8, 8), [0.5], [0.5])

    class Answering(Kind):
        def answers(self, net, examples, batch=256):
            return logits[: len(examples)]

    return report(Answering(form(1, 8), classes), blind, net, images, logits)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("n", "right"), [(36, 0.9), (36, 0.5), (200, 0.4), (500, 0.95)])
def test_nothing_is_said_of_the_right_order(seed, n, right):
    labels = labelled(n, 12, seed)
    assert lines_of(told(labels, 12, right, seed), labels, tuple(map(str, range(12))))[1] == []


def test_the_order_of_names_as_text_is_said_ready_to_paste():
    """A teacher whose folders torchvision sorted: 0, 1, 10, 11, 2, ..."""
    labels, classes = labelled(200, 12), tuple(map(str, range(12)))
    order = sorted(classes)
    place = torch.tensor([order.index(name) for name in classes])  # the logit of each class
    facts, (line,) = lines_of(told(place[labels], 12), labels, classes)
    assert '`classes: ["0", "1", "10", "11", "2", "3",' in line
    assert "in the order of their names as text" in line
    assert max(facts["readings"].values()) > 85 > 40 > facts["accuracy"]


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_in_each_others_place_are_seen(seed):
    labels, classes = labelled(200, 12, seed), tuple(map(str, range(12)))
    swapped = torch.tensor([0, 2, 1, *range(3, 12)])
    _, (line,) = lines_of(told(swapped[labels], 12, seed=seed), labels, classes)
    assert '["0", "2", "1", "3",' in line


def test_a_teacher_of_a_long_tail_does_not_guess():
    labels = torch.cat([torch.zeros(967, dtype=torch.long), torch.arange(1, 12).repeat_interleave(3)])
    images = pack(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), labels, tuple(map(str, range(12))))
    kind = Kind(form(1, 8), images.classes)
    score, guess = kind.sense(told(labels, 12, 0.92), images)
    assert score > 80 > 10 > guess
    always = nn.functional.one_hot(torch.zeros_like(labels), 12).double()
    assert kind.sense(always, images)[0] == pytest.approx(guess)


class ByColour(nn.Module):
    """Knows six colours by the mean of a normalised image."""

    def __init__(self):
        super().__init__()
        mean, std = (torch.tensor(values) for values in (MEAN, STD))
        self.centres = nn.Parameter((COLOURS / 255 - mean) / std)

    def forward(self, x):
        return -torch.cdist(x.mean((2, 3)), self.centres) * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"order": "bgr"}, "`order: rgb`"),
        ({"mean": [0.0] * 3, "std": [1.0] * 3}, "std"),
    ],
)
def test_other_readings_of_images_are_tried(changes, said):
    labels = labelled(120, 6)
    noise = torch.randint(-50, 50, (120, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    images = pack((COLOURS[labels][:, :, None, None] + noise).clamp(0, 255).byte(), labels, NAMES)
    interface = Interface(**{"mean": MEAN, "std": STD, **changes})
    net, kind = Adapter(ByColour(), interface).eval(), Kind(form(3, 16), NAMES)
    blueprint = Blueprint("net", NAMES, (3, 16, 16), MEAN, STD, interface=interface)
    facts, lines = report(kind, blueprint, net, images, kind.answers(net, images))
    assert (said is None) == (not lines)
    assert said is None or said in lines[-1]
    assert "channels in the order BGR" in facts["readings"] or "channels in the order RGB" in facts["readings"]


def test_the_owners_own_accuracy_is_compared():
    assert below(93.0, 91.5, 500) == []
    assert below(93.0, 70.0, 500) == ["look here: it should have 93.0 %, and has 70.0 % on 500 validation images"]
    assert below(100.0, 97.0, 30) == []
