"""What another kind of task, other inputs and other teachers need of the code that knows none of them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from stages.datasets.examples import Examples
from stages.datasets.images import Augment, augmented
from stages.engine.checkpoint import Checkpoint
from stages.engine.loop import train
from stages.engine.players import Player
from stages.engine.teacher import Teacher
from stages.networks.normalize import Normalized
from tests.small import CPU, INVERSIONS, METHODS, PLAIN, images, method, method_class, network, sentences, text


@pytest.mark.parametrize("name", ["supervised", "kd_in_domain", "kd_ood"])
def test_texts_go_the_same_way(name, tmp_path):
    of = method_class(name)
    given = text(steps=60, student="bert_1_8")
    game = of(replace(given, schedule=replace(given.schedule, lr=0.01)), of.Params())
    batch = next(iter(game.streams.values())).next()
    assert batch["input"].dtype == torch.int64
    assert (batch["length"] >= 6).all()  # every column comes along
    game.streams[next(iter(game.streams))].seek(0)
    curve = train(game, CPU, 0, Checkpoint(tmp_path, 1e6, 10**9), dict, "")
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_a_set_of_texts_survives_its_file(tmp_path):
    sentences().save(tmp_path / "set.safetensors")
    read = Examples.load(tmp_path / "set.safetensors")
    assert read.shape == (12,)
    assert all(torch.equal(read.columns[name], column) for name, column in sentences().columns.items())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_player_owns_part_of_a_network(optimizer, tmp_path):
    """The student starts with frozen embeddings: they stay bit-identical, the rest learns, and a resumed run ends the same."""

    def begun():
        given, of = text(steps=60), method_class("kd_ood")
        given.student.net.bert.embeddings.requires_grad_(False)
        return of(replace(given, schedule=replace(given.schedule, optimizer=optimizer)), of.Params())

    game = begun()
    net = game.student.net.net
    embeddings, head = net.bert.embeddings.word_embeddings.weight.clone(), net.classifier.weight.clone()
    train(game, CPU, 0, Checkpoint(tmp_path / "a", 1e6, every_steps=25), dict, "")
    assert torch.equal(net.bert.embeddings.word_embeddings.weight, embeddings)
    assert not torch.equal(net.classifier.weight, head)
    again = begun()
    train(again, CPU, 0, Checkpoint(tmp_path / "a", 1e6, every_steps=10**9), dict, "")  # from step 50
    assert torch.equal(again.student.net.net.classifier.weight, net.classifier.weight)


def test_statistics_of_a_part_that_is_not_owned_stand_still():
    net = network("convnet_4").train()
    head = net.net.head
    player = Player(net, torch.optim.SGD(head.parameters(), 0.1), CPU)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with player.turn():
        player.update(player(torch.rand(8, 1, 16, 16)).square().sum())
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"net.head.weight", "net.head.bias"}


@pytest.mark.parametrize("name", METHODS)
def test_images_need_not_be_square(name):
    game = method(name, size=[12, 20], augment=Augment(crop=1, flip=name != "augkd"))
    for _ in range(3):
        assert all(torch.isfinite(value).all() for value in game.step().values())
    shown = game.samples(4)
    assert shown is None or shown.shape == (4, 1, 12, 20)


def test_a_crop_of_an_image_that_is_not_square_equals_a_crop_by_hand():
    batch = images(16, channels=3, size=[12, 20]).input
    torch.manual_seed(1)
    found = augmented(batch, Augment(crop=2))
    torch.manual_seed(1)
    tops, lefts = torch.randint(5, (2, 16, 1))
    for image, result, top, left in zip(batch, found, tops, lefts, strict=True):
        padded = torch.zeros(3, 16, 24, dtype=torch.uint8)
        padded[:, 2:14, 2:22] = image
        assert torch.equal(result, padded[:, int(top) : int(top) + 12, int(left) : int(left) + 20])


class Cut(nn.Module):
    """Some of the logits of a network: a teacher of these classes alone."""

    def __init__(self, net, classes):
        super().__init__()
        self.net, self.classes = net, classes

    def forward(self, x):
        return self.net(x)[:, self.classes]


def halves():
    """A teacher of two parts on disjoint classes, of different architectures."""
    torch.manual_seed(5)
    return Teacher(Cut(network("convnet_8"), slice(0, 5)), Cut(network("wrn10_1"), slice(5, 10)))


def test_the_logits_of_two_parts_stand_side_by_side():
    teacher, x = halves(), torch.rand(3, 1, 16, 16)
    expected = torch.cat([part(x) for part in teacher.parts], 1)
    assert torch.equal(teacher(x), expected)
    assert torch.allclose(teacher.logits(x), expected, atol=1e-6)
    assert teacher.forwards == 6


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("fitnet", "at", "sp")])
def test_a_teacher_of_two_parts_teaches(name):
    game = method(name, teacher=halves())
    before = {key: value.clone() for key, value in game.teacher.state_dict().items()}
    for _ in range(2):
        assert all(torch.isfinite(value).all() for value in game.step().values())
    assert all(torch.equal(value, before[key]) for key, value in game.teacher.state_dict().items())


def test_inversion_listens_to_every_part():
    game = method("cmi", teacher=halves())
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in part.modules()) for part in game.teacher.parts]
    assert len(game.guidance.norms.layers) == sum(norms)
    assert all(norms)


def test_what_a_teacher_can_is_what_every_part_can():
    bare = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    assert Teacher(network("convnet_4")).can == {*PLAIN, "gradient", "batch_norm", "maps", "stages"}
    assert halves().can == {*PLAIN, "gradient", "batch_norm", "maps"}
    assert Teacher(network("convnet_4"), bare).can == {*PLAIN, "gradient"}
    assert text().teacher.can == {*PLAIN, "gradient", "embeddings"}
    bare.differentiable = False
    assert Teacher(Normalized(bare, [0.5], [0.25])).can == PLAIN


NEEDY = (
    "fitnet",
    "at",
    "sp",
    "cfl",
    "dfq",
    "mosaickd_bn",
    "augkd",
    *INVERSIONS,
    "impression",
    "tessera",
    "dfq_finetuned",
    "cmi_finetuned",
)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in NEEDY])
def test_a_teacher_without_batch_norm_or_stages_teaches_what_needs_neither(name):
    torch.manual_seed(5)
    teacher = Teacher(nn.Sequential(nn.Flatten(), nn.Linear(256, 10)))
    assert all(torch.isfinite(value).all() for value in method(name, teacher=teacher).step().values())
