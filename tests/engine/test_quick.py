"""The quicker copies of a teacher's networks: what they answer, and what is left as it was."""

import pytest
import torch
from torch import nn

from stages.engine.quick import fold, quick
from stages.engine.teacher import Teacher
from tests.small import encoder, network, sentences

# Batch normalisations that follow a convolution: all, but for the first of each of WRN's blocks, and its last.
FOLDED = {"wrn10_1": 3, "resnet18": 20, "vgg11": 8, "convnet_4": 3, "unet_4": None, "torchvision.mobilenet_v3_small": None}


def trained(name, size=32):
    """With running statistics, scales and shifts that are not those of a fresh network."""
    torch.manual_seed(0)
    net = network(name, 3, size)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.1)
    net.train()(torch.rand(16, 3, size, size))
    return net.eval()


@pytest.mark.parametrize("name", FOLDED)
def test_a_folded_network_answers_as_before(name, fp64):
    net, images = trained(name).double(), torch.rand(4, 3, 32, 32, dtype=torch.float64)
    before = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    with torch.no_grad():
        expected, folded = net(images), fold(net)
        assert torch.allclose(folded(images), expected, rtol=1e-9, atol=1e-9)
    called = [folded.get_submodule(node.target) for node in folded.graph.nodes if node.op == "call_module"]
    left = sum(isinstance(module, nn.BatchNorm2d) for module in called)
    assert before - left == (FOLDED[name] or before)


def test_logits_under_bf16_are_those_of_the_network_under_bf16():
    """As near to full precision as the network itself under autocast, whose rounding differs; nothing of it has changed."""
    net, images = trained("wrn10_1"), torch.rand(64, 3, 32, 32)
    teacher = Teacher(net)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    exact = teacher.logits(images)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        plain, quicker = teacher(images).float(), teacher.logits(images)
    assert quicker.dtype == torch.float32
    assert (quicker - exact).abs().max() <= 2 * (plain - exact).abs().max()
    assert (quicker.argmax(1) == exact.argmax(1)).float().mean() >= 0.9
    assert teacher.forwards == 3 * 64  # the example by which it was folded does not count
    assert teacher.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


class Strange(nn.Module):
    """A network that no trace can follow: its way depends on what it sees."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 10))

    def forward(self, x):
        return self.layers(x) if x.mean() > 0 else -self.layers(x)


def test_a_network_that_cannot_be_traced_runs_as_it_is():
    torch.manual_seed(0)
    net, images = Strange().eval(), torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(quick(net, images, False, False)(images), net(images))
        assert torch.allclose(quick(net, images, False, False)(-images), net(-images))


def test_texts_go_the_same_way():
    net, ids = encoder("bert_2_16").eval(), sentences().input
    teacher = Teacher(net)
    exact = teacher.logits(ids)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        quicker = teacher.logits(ids)
    assert (quicker.argmax(1) == exact.argmax(1)).float().mean() >= 0.9


def test_without_a_compiler_the_teacher_runs_as_it_is(monkeypatch, capsys):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(config, "force_disable_caches", True)
    teacher, images = Teacher(trained("convnet_4")), torch.rand(4, 3, 32, 32)
    expected = teacher.logits(images)
    teacher.compiled = True
    assert torch.allclose(teacher.logits(images), expected, atol=1e-5)
    assert capsys.readouterr().out.startswith("run.compile: the teacher is not compiled (")
