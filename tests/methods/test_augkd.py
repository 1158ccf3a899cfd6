"""AuG-KD: each stage against a plain re-computation, the schedule, the guards, and what its parts are for."""

import copy
from dataclasses import replace

import pytest
import torch

from stages.datasets.images import Augment, to_unit
from stages.datasets.sources.digits import Source as Digits
from stages.datasets.sources.font_digits import Source as FontDigits
from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint
from stages.engine.loop import train
from stages.engine.players import in_eval
from stages.engine.teacher import Teacher
from stages.kinds.classification import splits
from stages.losses import distillation, synthesis
from stages.methods._latents import ramp
from stages.methods.augkd import Method
from stages.methods.bases.method import Schedule, Setting
from stages.networks.build import build
from stages.networks.encoder import Anchor
from stages.networks.normalize import Normalized
from stages.prepare import split
from stages.support.errors import UserError
from tests import naive_augkd as naive
from tests.small import CPU, form, kind, method, taught


def inputs_of(net, images):
    """Logits, and what enters each batch-norm layer of a Normalized ConvNet, layer by layer."""
    x, heard = (images - net.normalize.mean) / net.normalize.std, []
    for layer in net.net.features:
        if isinstance(layer, torch.nn.BatchNorm2d):
            heard.append(x.clone())
        x = layer(x)
    return net.net.head(x.mean((2, 3))), heard


@pytest.mark.usefixtures("fp64")
def test_the_data_free_stage_equals_a_plain_re_computation():
    game = method("augkd")
    student, generator, encoder = (copy.deepcopy(p.net) for p in (game.student, game.generator, game.encoder))
    rt.seed(5)
    with game.generator.turn():
        fake, _ = game.generate()
    found = sum(weight * term for weight, term in game.generator_terms(fake).values())
    rt.seed(5)
    made = generator(torch.randn(8, 8))
    t, heard = inputs_of(game.teacher.parts[0], made)
    norms = [m for m in game.teacher.parts[0].modules() if isinstance(m, torch.nn.BatchNorm2d)]
    student.eval()
    for norm in student.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.track_running_stats = True
    expected = naive.generator_loss(t, student(made), heard, norms, 8.7, 1.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)

    rt.seed(6)
    learned = game.imitate_and_encode()
    rt.seed(6)
    z = torch.randn(8, 8)
    made = game.generator.net(z).detach()  # its running statistics do not matter: it is in train mode
    t = game.teacher.parts[0](made)
    student.train()
    mean, log_variance = encoder(made, t.argmax(1))
    noise = torch.randn_like(mean)
    assert learned[0].item() == pytest.approx(naive.kl(t, student(made)).item(), rel=1e-9)
    assert learned[1].item() == pytest.approx(naive.encoder_loss(mean, log_variance, noise, z).item(), rel=1e-9)


@pytest.mark.usefixtures("fp64")
def test_the_anchor_and_the_mixup_stage_equal_a_plain_re_computation():
    game = method("augkd", {"data_free": 2, "anchor_steps": 2, "b": 0.5, "a": 0.5}, steps=8)
    for _ in range(2):
        game.step()
    anchor = copy.deepcopy(game.anchor.net)
    game.domain.seek(0)
    found = game.step()
    game.domain.seek(0)
    batch = game.domain.next()
    encoder, generator = copy.deepcopy(game.encoder.net).eval(), copy.deepcopy(game.generator.net).eval()
    for norm in [*encoder.modules(), *generator.modules()]:
        if hasattr(norm, "track_running_stats"):
            norm.track_running_stats = True
    z = encoder(batch["input"], batch["label"])[0]
    anchored, mask = anchor(z, batch["label"])
    logits = game.teacher.parts[0](generator(anchored))
    total = found["uncertainty"] + 10 * found["invariance"] + 0.1 * found["label"]
    assert total.item() == pytest.approx(naive.anchor_loss(logits, batch["label"], mask, 0.25, 10.0, 0.1).item(), rel=1e-9)

    game.step()
    student, position = copy.deepcopy(game.student.net), game.domain.position
    anchor = copy.deepcopy(game.anchor.net).eval()
    for norm in anchor.modules():
        if hasattr(norm, "track_running_stats"):
            norm.track_running_stats = True
    found = game.step()
    game.domain.seek(position)
    batch = game.domain.next()
    z = encoder(batch["input"], batch["label"])[0]
    anchored, mask = anchor(z, batch["label"])
    f = 0.5
    mixed = (1 - f) * generator((1 - f) * anchored + f * z) + f * batch["input"]
    s = student(torch.cat([batch["input"], mixed]))
    expected = naive.mixup_loss(s[:8], s[8:], game.teacher.parts[0](mixed), batch["label"], f, 4.0)
    assert (0.5 * found["label"] + 0.5 * found["kd"]).item() == pytest.approx(expected.item(), rel=1e-9)
    assert found["f"] == f
    assert found["mask"].item() == pytest.approx(mask.mean().item())


def test_the_ramp_rises_from_b_to_1():
    values = [ramp(i / 200, 0.6, 0.2) for i in range(201)]
    assert values[0] == 0.2
    assert values[120:] == [1.0] * 81
    assert values == sorted(values)
    assert len(set(values)) == 121
    assert ramp(0.3, 0.6, 0.2) == pytest.approx(0.6)


def test_at_the_end_of_the_ramp_a_mixture_is_the_real_image():
    game = method("augkd")
    batch = game.domain.next()
    assert torch.equal(game.latents.mixtures(batch["input"], batch["label"], 1.0)[0], batch["input"])
    assert not torch.allclose(game.latents.mixtures(batch["input"], batch["label"], 0.9)[0], batch["input"])


def test_a_collapsed_mask_is_refused():
    game = method("augkd", {"data_free": 1, "anchor_steps": 1})
    game.step()
    game.step()
    torch.nn.init.constant_(game.anchor.net.mask[2].bias, -9.0)
    with pytest.raises(UserError, match=r"mask collapsed to a mean of 0\.000"):
        game.step()


def test_a_student_that_is_the_teacher_is_refused():
    one = method("augkd").setting
    with pytest.raises(ValueError, match="share parameters"):
        Method(replace(one, student=one.teacher.parts[0]), Method.Params(latent=8, generator_width=4))


@pytest.mark.parametrize(
    ("params", "lengths"),
    [({"b": 1.0}, [4, 0, 20]), ({"b": 1.0, "data_free": 0}, [0, 0, 20]), ({"anchor_steps": 0}, [4, 0, 20]), ({}, [4, 4, 20])],
)
def test_a_stage_that_nothing_needs_is_left_out(params, lengths):
    assert [length for length, _ in method("augkd", params).phases()] == lengths


def test_the_students_schedule_starts_anew_in_the_mixup_stage(tmp_path):
    game = method("augkd", {"data_free": 10, "anchor_steps": 10}, steps=20)
    rates, inner = [], game.step

    def step():
        scalars = inner()
        rates.append({name: player.optimizer.param_groups[0]["lr"] for name, player in game.players.items()})
        return scalars

    game.step = step
    train(game, CPU, 0, Checkpoint(tmp_path, 1e6, 10**9), dict, "")
    student, anchor = [row["student"] for row in rates], [row["anchor"] for row in rates]
    assert student[0] == student[20] == pytest.approx(1e-3)
    assert student[5] == student[30] == pytest.approx(5e-4)
    assert student[10:20] == [0.0] * 10
    assert anchor[:11] == [pytest.approx(1e-3)] * 11
    assert anchor[15] == pytest.approx(5e-4)
    assert all(row["encoder"] == 1e-4 for row in rates)


@pytest.mark.parametrize("killed_at", [2, 6, 11])
def test_a_kill_in_any_stage_changes_nothing(tmp_path, killed_at):
    def ends(game, folder):
        train(game, CPU, 0, Checkpoint(folder, 1e6, every_steps=1), dict, "")
        return game.student.net.state_dict()

    whole = ends(method("augkd", steps=6), tmp_path / "a")
    game, inner, done = method("augkd", steps=6), None, []
    inner = game.step

    def step():
        if len(done) == killed_at:
            raise KeyboardInterrupt
        done.append(0)
        return inner()

    game.step = step
    with pytest.raises(KeyboardInterrupt):
        ends(game, tmp_path / "b")
    resumed = ends(method("augkd", steps=6), tmp_path / "b")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


@pytest.fixture(scope="module")
def shifted():
    """A teacher of handwritten digits, labelled digits in printed fonts, and a run of AuG-KD up to its mixup stage."""
    digits = Digits(source="digits").read(form())
    fonts = split(splits, FontDigits(source="font_digits", count=700).read(form()), None, "", 100, 0.3, 200)
    mean, std = [0.3], [0.35]
    guide = taught("convnet_16", digits, Schedule(400, 32, 64, 0.1, 5e-4, Augment(crop=1)), mean, std)

    def start(mixup_steps=200, **changes):
        rt.seed(1)
        student = Normalized(build("convnet_8", 10, (1, 16, 16)), mean, std)
        params = Method.Params(
            **{
                "data_free": 200,
                "data_free_batch": 32,
                "anchor_steps": 300,
                "latent": 32,
                "generator_width": 16,
                "encoder_lr": 1e-3,
                "label": 0.5,
                **changes,
            }
        )
        schedule = Schedule(mixup_steps, 32, 64, 0.1, 1e-4)
        data = {"student_domain": fonts["train"]}
        return Method(Setting(kind(), guide, student, schedule, 0, CPU, data, mean, std), params)

    game = start()
    for step in range(500):
        rt.seed(0, step)
        for player in game.players.values():
            player.anneal(step / game.iterations)
        game.step()
    return game, start, fonts["test"]


def judged_by_teacher(game, images, labels):
    """Mean entropy and cross-entropy of T on G(E(x)) and on G(z'), and how far z' lies from z."""
    with torch.no_grad(), in_eval(game.generator.net), in_eval(game.anchor.net):
        z = game.latents.encode(images, labels)
        anchored, mask = game.anchor.net(z, labels)
        plain, moved = (game.teacher(game.generator(latents)) for latents in (z, anchored))
    entropies = [distillation.entropy(logits).mean().item() for logits in (plain, moved)]
    errors = [torch.nn.functional.cross_entropy(logits, labels).item() for logits in (plain, moved)]
    return entropies, errors, ((anchored - z).norm(dim=1) / z.norm(dim=1)).mean().item(), mask.mean().item()


@pytest.mark.learned
def test_anchors_make_the_teacher_sure_and_right_on_held_out_images(shifted):
    game, _, test = shifted
    entropies, errors, moved, mask = judged_by_teacher(game, to_unit(test.input), test.label)
    assert entropies[1] < entropies[0]
    assert errors[1] < errors[0]
    assert abs(mask - 0.75) < 0.2
    assert moved > 0.1


@pytest.mark.learned
def test_a_penalty_summed_over_the_batch_would_collapse_the_mask():
    """The released code's slip: the sum over batch and latents is held against the target of one sample."""
    anchor = Anchor(100, 10)
    optimizer = torch.optim.Adam(anchor.parameters(), 1e-2)
    z, labels = torch.randn(398, 100), torch.randint(10, (398,))
    for _ in range(300):
        moved, mask = anchor(z, labels)
        loss = (mask.sum() - 100 * 0.75).abs() / 398
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert mask.mean() < 0.01
    assert ((moved - z).norm(dim=1) / z.norm(dim=1)).mean() < 0.02
    anchor = Anchor(100, 10)
    optimizer = torch.optim.Adam(anchor.parameters(), 1e-2)
    for _ in range(300):
        mask = anchor.masks(labels)
        optimizer.zero_grad()
        (10 * synthesis.invariance(mask, 0.25)).backward()
        optimizer.step()
    assert abs(mask.mean().item() - 0.75) < 0.1


@pytest.mark.learned
def test_in_the_mixup_stage_the_student_learns_from_the_teacher_that_it_is_given(shifted):
    """With mixtures that are all anchor and no labels, it answers as its own teacher, be that one a stranger to the images."""
    trained, start, test = shifted
    rt.seed(9)
    stranger = Teacher(Normalized(build("convnet_16", 10, (1, 16, 16)), [0.3], [0.35]))
    z = trained.latents.encode(to_unit(test.input), test.label)
    with torch.no_grad(), in_eval(trained.anchor.net):
        mixed = trained.latents.decode(trained.anchor.net(z, test.label)[0])

    def answers(teacher):
        game = start(mixup_steps=150)
        for name in ("generator", "encoder", "anchor"):
            game.players[name].net.load_state_dict(trained.players[name].net.state_dict())
        game.clock.done = 500
        game.teacher = teacher
        game.real_part = lambda number: 0.0
        terms = game.mixup_terms
        game.mixup_terms = lambda *inputs: {"kd": terms(*inputs)["kd"]}
        for step in range(150):
            rt.seed(2, step)
            game.step()
        with torch.no_grad():
            return game.setting.student.eval()(mixed).log_softmax(1)

    def far(mine, theirs):
        return distillation.kl_divergence(theirs, mine).item()

    known, strange = trained.teacher.logits(mixed), stranger.logits(mixed)
    of_known, of_strange = answers(trained.teacher), answers(stranger)
    assert far(of_known, known) < far(of_strange, known) / 2
    assert far(of_strange, strange) < far(of_known, strange) / 2
