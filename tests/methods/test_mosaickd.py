import copy
import math
from dataclasses import replace

import pytest
import torch

from stages import methods
from stages.datasets.images import Augment
from stages.datasets.sources.photographs import Source as Photographs
from stages.engine import runtime as rt
from stages.losses import synthesis
from stages.methods import upper_bound
from stages.methods.bases.phased import Phased
from stages.methods.blocks.terms import weighted
from stages.networks.discriminator import ImageDiscriminator, PatchDiscriminator
from stages.settings import params
from tests.clones import REPOSITORY
from tests.naive_mosaickd import NaiveMosaicKD
from tests.small import MEAN, METHODS, STD, answered, form, method, method_class, setting, stream, with_data


def snapshot(net):
    return copy.deepcopy(net.state_dict())


def same(net, state):
    return all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_the_teacher_never_changes_and_is_never_the_student(name):
    game = method(name)
    before = snapshot(game.teacher)
    for step in range(3):
        rt.seed(0, step)
        game.step()
    assert same(game.teacher, before)
    assert not game.teacher.parts[0].training
    mine = {id(parameter) for parameter in game.teacher.parameters()}
    assert not any(id(parameter) in mine for player in game.players.values() for parameter in player.parameters)
    assert not any(parameter.requires_grad for parameter in game.teacher.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_players_change_only_in_their_own_turn(name):
    """Parameters and buffers of each player, before and after every turn and update of another."""
    game = method(name)
    for mover, player in game.players.items():
        inner = player.update

        def update(loss, mover=mover, inner=inner):
            others = {other: snapshot(p.net) for other, p in game.players.items() if other != mover}
            own = snapshot(game.players[mover].net)
            inner(loss)
            assert not same(game.players[mover].net, own)
            assert all(same(game.players[other].net, state) for other, state in others.items())

        player.update = update
    between = {name: snapshot(player.net) for name, player in game.players.items()}
    for _ in range(game.iterations if isinstance(game, Phased) or name == "tessera" else 1):
        game.step()
    assert all(not same(player.net, between[name]) for name, player in game.players.items())
    for player in game.players.values():
        assert not any(parameter.requires_grad for parameter in player.parameters)


def test_only_the_upper_bounds_see_in_domain_images():
    assert [name for name in METHODS if upper_bound(method_class(name))] == ["supervised", "kd_in_domain"]
    for name in ("kd_noise", "kd_ood", "mosaickd", "odsd", "augkd"):
        assert "in_domain" not in method(name).streams


def test_buffers_stand_still_outside_a_turn():
    """After the generator's step S, D and T are bit-identical, running statistics too; in the student's steps, G is."""
    game = method("mosaickd")
    with game.generator.turn():
        fake = game.generate(8)
    before = [snapshot(game.student.net), snapshot(game.discriminator.net), snapshot(game.teacher)]
    terms = game.terms(fake)
    with game.generator.turn():
        game.generator.update(weighted(terms))
    assert same(game.student.net, before[0])
    assert same(game.discriminator.net, before[1])
    assert same(game.teacher, before[2])
    generator = snapshot(game.generator.net)
    game.imitate([game.student_batch()])
    assert same(game.generator.net, generator)
    assert not same(game.student.net, before[0])


def test_the_reference_switch_moves_the_students_statistics_and_not_its_weights():
    game = method("mosaickd_reference")
    with game.generator.turn():
        fake = game.generate(8)
    before = snapshot(game.student.net)
    game.terms(fake)
    changed = {key for key, value in game.student.net.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all("running" in key or "num_batches" in key for key in changed)


@pytest.mark.parametrize(("task", "mean", "std"), [
    ("cifar100-cifar10-wrn40_2-wrn16_1", [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
    ("cifar100-svhn-wrn40_2-wrn16_1", [0.5], [0.5]),
])  # fmt: skip
def test_the_reference_switch_normalises_the_ood_stream_with_the_released_constants(task, mean, std):
    section = methods.section(params.load(REPOSITORY / "params.yaml"), "mosaickd_reference", task)
    game = method("mosaickd_reference", section.model_dump(include={"ood_mean", "ood_std"}), channels=3)
    pixels = stream("ood", game.setting.data["pool"], game.batch).next()["input"]
    seen = game.teacher.parts[0].normalize(game.foreign()[0])
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    torch.testing.assert_close(seen, (pixels - mean) / std)


@pytest.mark.parametrize(("patch", "augment"), [(10, Augment()), (18, Augment(crop=2, flip=True))])
def test_mosaickd_equals_a_loop_that_recomputes_everything(patch, augment, fp64):
    """Three iterations at 32 pixels against the literal loop of the released code: losses, and every parameter after them."""
    game = method("mosaickd", {"patch": patch}, channels=3, size=32, batch=8, augment=augment, teacher="wrn10_1")
    pool, batch = game.setting.data["pool"], game.batch
    nets = (game.teacher.parts[0].net, game.student.net.net, game.generator.net, game.discriminator.net.net)
    naive = NaiveMosaicKD(
        [copy.deepcopy(net) for net in nets],
        MEAN,
        STD,
        stream("real", pool, batch),
        stream("ood", pool, batch, augment=augment),
        batch,
    )
    for step in range(3):
        for player in game.players.values():  # the naive loop's rates stand still
            player.anneal(0.0)
        rt.seed(0, step)
        fast = {name: value.item() for name, value in game.step().items()}
        rt.seed(0, step)
        assert fast == pytest.approx(naive.step(), rel=1e-9, abs=1e-9)
    for mine, theirs in zip(nets, (naive.t, naive.s, naive.g, naive.d), strict=True):
        for (name, value), other in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(value, other, rtol=1e-7, atol=1e-9, msg=name)


def test_without_the_local_term_there_is_no_discriminator():
    game = method("mosaickd", {"local": 0.0})
    assert set(game.players) == {"student", "generator"}
    assert set(game.step()) == {"adversarial", "align", "balance", "S"}


def test_without_the_ood_stream_the_student_sees_synthetic_images_only():
    game = method("mosaickd", {"ood_stream": False, "local": 0.0})
    assert [len(images) for images, _ in game.student_batch()] == [8]
    game.step()
    assert game.ood.position == 0


@pytest.mark.usefixtures("fp64")
def test_the_batch_norm_term_is_what_plain_statistics_give():
    game, fake, error = method("mosaickd_bn", channels=3), torch.rand(8, 3, 16, 16), []
    weight, found = game.terms(fake)["bn"]

    def compare(norm, inputs):
        (x,) = inputs
        for mine, theirs in ((x.mean((0, 2, 3)), norm.running_mean), (x.var((0, 2, 3), unbiased=False), norm.running_var)):
            error.append((mine - theirs).square().sum().sqrt())

    for norm in (module for module in game.teacher.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.register_forward_pre_hook(compare)
    game.teacher(fake, eager=True)
    assert weight == 1
    assert found.item() == pytest.approx(sum(error).item(), rel=1e-6)


@pytest.mark.parametrize("params", [{"discriminator": "image"}, {"patch": 4}, {"patch": 1, "patch_stride": 2}])
def test_other_discriminators_play(params):
    scalars = method("mosaickd", params).step()
    assert all(math.isfinite(value) for value in scalars.values())


def test_losses_start_where_chance_says():
    """Fresh networks at batch 64 on photographs at 32 px, seeds 0 and 1: L_D 45-48 and L_local 40-64, as measured elsewhere."""
    pool = Photographs(source="photographs", count=64).read(form(3, 32))
    kind = method_class("mosaickd")
    for seed in range(2):
        rt.seed(seed)
        given = answered(with_data(replace(setting(channels=3, size=32, batch=64), seed=seed), pool=pool))
        rt.seed(seed)
        game = kind(given, kind.Params(student_steps=1))
        assert 40 < synthesis.patch_realism(game.discriminator(game.samples(64))) < 64
        first = game.step()
        assert 44 < first["D"] < 48
        assert 0 < first["align"] < math.log(10)
        assert -math.log2(10) <= first["balance"] <= 0


def test_patch_weights_do_not_depend_on_the_geometry():
    """At chance every discriminator gives 64 ln 2, however many logits it has."""
    x = torch.rand(4, 3, 32, 32)
    for judge in (*(PatchDiscriminator(3, patch, 4) for patch in (1, 2, 4, 10, 18, 22)), ImageDiscriminator((3, 32, 32), 4)):
        for parameter in judge.parameters():
            torch.nn.init.zeros_(parameter)
        assert synthesis.patch_realism(judge(x)).item() == pytest.approx(64 * math.log(2))


@pytest.mark.parametrize("name", ["mosaickd", "dafl", "zskt", "dfq", "kd_ood", "fast"])
def test_the_student_learns_at_its_temperature(name):
    """tau^2 KL of predictions at tau, by its sum (Hinton et al. 2015)."""
    game, tau = method(name, {"tau": 4.0}), 4.0
    teacher, student = torch.randn(2, 8, 10, generator=torch.Generator().manual_seed(0))
    p, q = ((logits / tau).softmax(1) for logits in (teacher, student))
    assert game.distance(teacher, student).item() == pytest.approx(
        (tau**2 * (p * (p.log() - q.log())).sum() / 8).item(), rel=1e-5
    )
