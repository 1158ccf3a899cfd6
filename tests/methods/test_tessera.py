"""Tessera: what T is asked, what is replayed, what the hint and the recalibration are, against naive references."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from stages.datasets.images import Augment
from stages.engine import runtime as rt
from stages.engine.teacher import Teacher
from tests.small import SMALL, method, method_class, network, setting

BLACK_BOX = {"synthetic": 0.0, "hint": 0.0, "recalibrate": 0}


def run(game):
    for step in range(game.iterations):
        rt.seed(0, step)
        scalars = game.step()
    return scalars


@pytest.mark.parametrize(("reuse", "new"), [(1, 16), (2, 8), (4, 4), (16, 1)])
def test_the_teacher_looks_once_at_every_mosaic_and_the_student_reuse_times(reuse, new):
    """Batches of 16: the first is all new, each after it has one new image in `reuse`."""
    game = method("tessera", {**BLACK_BOX, "reuse": reuse}, steps=20)
    run(game)
    assert game.student.updates == 20
    assert game.teacher.forwards == game.mosaics.ring.total == 16 + 19 * new
    assert game.teacher.backwards == 0
    assert game.views.ring.total == 0


def test_the_teacher_is_asked_about_inverted_images_once_too():
    """alone 0: from the first step on, half of 16 inverted. A synthesis is two inner steps on 8 images."""
    game = method("tessera", {"alone": 0.0, "hint": 0.0, "recalibrate": 0, "reuse": 4}, steps=20)
    before = game.teacher.forwards
    run(game)
    syntheses = 4
    looked = 2 * (8 + 19 * 2)
    assert game.teacher.forwards - before == looked + syntheses * 2 * 8
    assert game.teacher.backwards == syntheses * 2 * 8
    assert len(game.pool) == 24  # the newest, of 32
    assert game.cost.images == 32


@pytest.mark.parametrize(("alone", "synthetic", "kinds"), [(1.0, 0.5, (True, False)), (0.0, 1.0, (False, True))])
def test_a_run_may_see_one_kind_of_image_only(alone, synthetic, kinds):
    game = method("tessera", {"alone": alone, "synthetic": synthetic, "reuse": 3}, steps=20)
    run(game)
    assert (len(game.mosaics) > 0, len(game.views) > 0) == kinds
    assert game.student.updates == 20


def test_at_first_all_are_mosaics():
    game = method("tessera", {"alone": 0.4, "hint": 0.0}, steps=20)
    names = []
    for step in range(game.iterations):
        rt.seed(0, step)
        names.append(set(game.step()))
    assert [len(name) > 1 for name in names] == [False, False, True, True]  # 8 of 20 steps, in syntheses of 5
    assert len(game.views) == 24


def test_what_is_replayed_is_what_the_teacher_said():
    game = method("tessera", {"recalibrate": 0}, steps=20)
    run(game)
    for replay in (game.mosaics, game.views):
        kept = {name: rows[: len(replay)] for name, rows in replay.ring.rows.items()}
        logits = game.teacher.logits(kept["images"].float() / 255)
        torch.testing.assert_close(kept["logits"], logits, atol=1e-4, rtol=1e-4)
    features = game.watch.teacher(game.mosaics.ring.rows["images"].float() / 255).pooled
    torch.testing.assert_close(game.mosaics.ring.rows["features"].float(), features, atol=2e-2, rtol=2e-2)


def test_the_run_takes_its_share_of_the_steps_and_its_rate_ends_low():
    game = method("tessera", {"share": 0.5}, steps=40)
    run(game)
    assert game.student.updates == 20
    assert game.schedule.beside(game.setting.schedule) == {"steps": [40, 20]}
    rates = {player.optimizer.param_groups[0]["lr"] for player in game.learners}
    assert len(rates) == 1
    assert rates.pop() < 0.01 * game.student.base_lr


def test_the_loss_is_distillation_and_the_distance_of_standardised_features():
    game = method("tessera", {"tau": 3.0, "hint": 0.5})
    torch.manual_seed(0)
    inputs, said = torch.rand(16, 1, 16, 16), torch.randn(16, 10)
    features = torch.randn(10, game.mean.numel())
    terms = game.learned(inputs, said, features)
    pooled = []
    linear = [m for m in game.student.net.modules() if isinstance(m, nn.Linear)][-1]
    hook = linear.register_forward_pre_hook(lambda _, x: pooled.append(x[0]))
    logits = game.student(inputs)
    hook.remove()
    kd = sum(float((p * (p.log() - q.log())).sum()) for p, q in zip((said / 3).softmax(1), (logits / 3).softmax(1), strict=True))
    assert terms["kd"][1].item() == pytest.approx(9 * kd / 16, rel=1e-4)
    (weight,) = game.mapping.parameters
    error = pooled[0][:10] @ weight.T - (features - game.mean) / game.std
    assert terms["hint"] == (0.5, terms["hint"][1])
    assert terms["hint"][1].item() == pytest.approx(float((error**2).mean()), rel=1e-4)


def test_features_are_standardised_by_those_of_the_pool():
    game = method("tessera")
    features = game.watch.teacher(game.setting.data["pool"].input.float() / 255).pooled
    torch.testing.assert_close(game.mean, features.mean(0), atol=1e-5, rtol=1e-4)
    std = features.std(0)
    torch.testing.assert_close(game.std, torch.maximum(std, 0.1 * std.mean()), atol=1e-5, rtol=1e-4)


def test_running_statistics_are_the_mean_over_the_last_batches():
    """Of the first batch norm, whose input does not depend on others: means and unbiased variances of 3 batches, averaged."""
    game = method("tessera", {**BLACK_BOX, "recalibrate": 3}, steps=20)
    run(game)
    first = next(m for m in game.student.net.modules() if isinstance(m, nn.BatchNorm2d))
    assert first.momentum is not None
    game.bare.seek(0)
    entered = []
    hook = first.register_forward_pre_hook(lambda _, x: entered.append(x[0].transpose(0, 1).flatten(1)))
    for _ in range(3):
        game.student.net(game.bare.next()["input"])
    hook.remove()
    torch.testing.assert_close(first.running_mean, torch.stack([x.mean(1) for x in entered]).mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first.running_var, torch.stack([x.var(1) for x in entered]).mean(0), atol=1e-5, rtol=1e-4)


def test_frozen_batch_normalisation_keeps_its_statistics():
    student = network("convnet_8")
    norms = [m for m in student.modules() if isinstance(m, nn.BatchNorm2d)]
    norms[0].requires_grad_(False)
    before = [norm.running_mean.clone() for norm in norms]
    of = method_class("tessera")
    params = of.Params(**{**SMALL["tessera"], **BLACK_BOX, "recalibrate": 2})
    run(of(replace(setting(steps=4), student=student), params))
    stayed = [torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True)]
    assert stayed == [True] + [False] * (len(norms) - 1)


def test_half_of_the_batches_for_running_statistics_is_inverted():
    game = method("tessera", steps=20)
    run(game)
    batch = next(iter(game.plain()))
    kept = game.views.ring.rows["images"].float() / 255
    bare = game.setting.data["pool"].input.float() / 255
    assert all((kept == image).flatten(1).all(1).any() for image in batch[:8])
    assert all((bare == image).flatten(1).all(1).any() for image in batch[8:])


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
    game = method("tessera", {**BLACK_BOX, "recalibrate": 2}, steps=20, teacher=remote)
    assert "gradient" not in remote.can
    before = [p.clone() for p in game.student.parameters]
    run(game)
    assert not all(map(torch.equal, before, game.student.parameters))
    assert game.samples(10).shape == (10, 1, 16, 16)


def test_views_are_cropped_and_flipped_and_never_mixed():
    game = method("tessera", {"recalibrate": 0}, steps=20, augment=Augment(flip=True))
    run(game)
    pool = game.pool.rows["images"].float()
    either = torch.cat([pool, pool.flip(3)])
    views = game.views.ring.rows["images"].float()
    newest = views[(game.views.ring.total - 4) % 24 :][:2]
    assert all((either == view).flatten(1).all(1).any() for view in newest)
