"""Tessera: what T is asked, what is kept of it, and a whole step against a plain loop."""

import copy
import math

import pytest
import torch
from torch import nn

from stages.datasets.images import Augment
from stages.engine import runtime as rt
from stages.engine.teacher import Teacher
from tests.small import method, network

BLACK_BOX = {"synthetic": 0.0}


def run(game):
    for step in range(game.iterations):
        rt.seed(0, step)
        scalars = game.step()
    return scalars


def test_the_teacher_looks_once_at_every_mosaic():
    """Batches of 16, all new."""
    game = method("tessera", BLACK_BOX, steps=20)
    run(game)
    assert game.student.updates == 20
    assert game.teacher.forwards == game.mosaics.ring.total == 20 * 16
    assert game.teacher.backwards == 0
    assert game.views.ring.total == 0


def test_the_teacher_is_asked_about_inverted_images_once_too():
    """Half of 16 inverted. A synthesis is two inner steps on 8 images."""
    game = method("tessera", steps=20)
    run(game)
    syntheses = 4
    assert game.teacher.forwards == 20 * 16 + syntheses * 2 * 8
    assert game.teacher.backwards == syntheses * 2 * 8
    assert len(game.pool) == 24  # the newest, of 32
    assert game.cost.images == 32


@pytest.mark.parametrize(("synthetic", "kinds"), [(0.0, (True, False)), (0.5, (True, True)), (1.0, (False, True))])
def test_a_run_may_see_one_kind_of_image_only(synthetic, kinds):
    game = method("tessera", {"synthetic": synthetic}, steps=20)
    run(game)
    assert (len(game.mosaics) > 0, len(game.views) > 0) == kinds
    assert game.student.updates == 20
    assert game.samples(10).shape == (10, 1, 16, 16)


def test_what_is_kept_is_what_the_teacher_said():
    game = method("tessera", steps=20)
    run(game)
    for replay in (game.mosaics, game.views):
        kept = {name: rows[: len(replay)] for name, rows in replay.ring.rows.items()}
        logits = game.teacher.logits(kept["images"].float() / 255)
        torch.testing.assert_close(kept["logits"], logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("balance", "tau"), [(0.0, 1.0), (0.5, 3.0)])
def test_a_run_equals_a_loop_that_recomputes_everything(balance, tau, fp64):
    """Three batches of mosaics: rows written round a ring, the KL as its sum, SGD as torch has it, the cosine by hand."""
    changes = {**BLACK_BOX, "balance": balance, "tau": tau, "student_steps": 3}
    game, other = (method("tessera", changes, steps=3) for _ in range(2))
    net = copy.deepcopy(game.student.net).requires_grad_(True)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    rt.seed(0, 0)
    found = game.step()["kd"].item()
    rt.seed(0, 0)
    images, answers, losses = torch.zeros(24, 1, 16, 16), torch.zeros(24, 10), []
    for step in range(3):
        new = other.composer.next() / 255
        places = torch.arange(16 * step, 16 * (step + 1)) % 24
        images[places], answers[places] = new, other.teacher.parts[0](new).detach()
        kept = answers[: min(16 * (step + 1), 24)]
        chances = torch.bincount(kept.argmax(1), minlength=10)[kept.argmax(1)].double() ** -balance
        rows = torch.multinomial(chances, 16, replacement=True)
        p, q = ((logits / tau).softmax(1) for logits in (kept[rows], net(images[rows])))
        loss = tau**2 * (p * (p.log() - q.log())).sum() / 16
        optimizer.param_groups[0]["lr"] = 0.1 * 0.5 * (1 + math.cos(math.pi * step / 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert found == pytest.approx(sum(losses) / 3, rel=1e-9)
    for mine, theirs in zip(game.student.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("balance", "share"), [(0.0, 6 / 8), (0.5, 0.634), (1.0, 0.5)])
def test_kept_images_are_drawn_by_their_class(balance, share):
    """Six kept images of one class and two of another: the first is drawn in proportion to 6^(1 - balance)."""
    game = method("tessera", BLACK_BOX, steps=20)
    answers = torch.nn.functional.one_hot(torch.tensor([3] * 6 + [7] * 2), 10).float()
    game.mosaics.ring.append(images=torch.zeros(8, 1, 16, 16, dtype=torch.uint8), logits=answers)
    torch.manual_seed(0)
    drawn = game.mosaics.draw(20_000, balance)["logits"].argmax(1)
    assert set(drawn.tolist()) == {3, 7}
    assert (drawn == 3).float().mean().item() == pytest.approx(share, abs=0.015)


def test_a_teacher_that_only_answers_is_enough():
    class Remote(nn.Module):
        differentiable = False

        def __init__(self):
            super().__init__()
            self.net = network("convnet_8")

        def forward(self, x):
            assert not torch.is_grad_enabled()
            return torch.from_numpy(self.net(x.detach()).numpy())

    remote = Teacher(Remote(), name="remote")
    game = method("tessera", BLACK_BOX, steps=20, teacher=remote)
    assert "gradient" not in remote.can
    before = [p.clone() for p in game.student.parameters]
    run(game)
    assert not all(map(torch.equal, before, game.student.parameters))


def test_views_are_cropped_and_flipped_and_never_mixed():
    game = method("tessera", steps=20, augment=Augment(flip=True))
    run(game)
    pool = game.pool.rows["images"].float()
    either = torch.cat([pool, pool.flip(3)])
    views = game.views.ring.rows["images"].float()
    newest = views[(game.views.ring.total - 8) % 24 :][:8]
    assert len(newest) == 8
    assert all((either == view).flatten(1).all(1).any() for view in newest)
