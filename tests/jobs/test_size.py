"""How large the networks of tasks are, against numbers of the literature and of the generators themselves."""

import pytest
import torch

from stages.jobs import size
from stages.networks.build import build
from stages.networks.generator import generator_for
from stages.networks.weights import architecture
from stages.settings import params
from tests.clones import REPOSITORY
from tests.small import encoder


@pytest.fixture(scope="module")
def settings():
    return params.load(REPOSITORY / "params.yaml")


def test_the_largest_network_of_a_task_counts(settings):
    """WRN-40-2 has 0.33 G multiply-accumulates at 32 px, ResNet-34 1.16 G (CRD's and Fast's pairs)."""
    for task, giga in (("cifar10-wrn", 0.33), ("cifar100-cifar10-resnet34-resnet18", 1.16)):
        assert size.largest(settings.task(task), task) / 1e9 == pytest.approx(giga, abs=0.005)


@pytest.mark.parametrize(("width", "side"), [(16, 16), (64, 32)])
def test_a_generator_is_about_as_large_as_is_said(width, side):
    macs = architecture(generator_for(64, (3, side, side), width), torch.zeros(1, 64))["macs"]
    assert size.GENERATOR * width**2 * side**2 == pytest.approx(macs, rel=0.1)


def test_an_encoder_of_texts_is_about_as_large_as_its_matrix_products(settings):
    """Counted by torch, which counts attention and the head too."""
    task = settings.task("agnews-small")

    net = encoder("bert_4_96", length=task.text.length)
    counted = architecture(net, torch.zeros(1, task.text.length, dtype=torch.int64))["macs"]
    assert size.largest(task, "agnews-small") == pytest.approx(counted, rel=0.15)
    assert size.largest(settings.task("agnews-bert"), "agnews-bert") == size.IMPORTED


def test_a_teacher_of_another_make_is_as_large_as_its_card_says(settings, tmp_path):
    task = settings.task("animals-real")
    assert size.largest(task, "animals-real") == size.IMPORTED  # nobody imported it here
    (tmp_path / "card.json").write_text('{"macs": 126000000}')
    assert size.largest(task, "animals-real", card=tmp_path / "card.json") == 126_000_000
    (tmp_path / "card.json").write_text('{"macs": 0}')
    student = architecture(build("wrn10_1", 10, (3, 32, 32)), torch.zeros(1, 3, 32, 32))["macs"]
    assert size.largest(task, "animals-real", card=tmp_path / "card.json") == student
