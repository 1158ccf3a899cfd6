"""The data-free family: each method against a naive loop in fp64, and the parts that they share."""

import copy
import io
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import sqrtm
from torch import nn

from stages.datasets.images import Augment, augmented, to_uint8
from stages.datasets.sources.digits import Source as Digits
from stages.engine import runtime as rt
from stages.engine.teacher import Teacher
from stages.losses import distillation, synthesis
from stages.methods import supervised
from stages.methods.bases.method import Rescheduled, Schedule, Setting
from stages.methods.blocks.guidance import Guidance, Lowest
from stages.methods.blocks.ring_buffer import Ring
from stages.methods.blocks.views import resized_crop
from stages.networks.generator import Generator, TransposedGenerator, redraw
from stages.networks.projection import Projection
from stages.networks.taps import BatchNorms, batch_norms, heads, listening, logits_and_inputs, moments, pooled
from stages.reporting.features import frechet_distance, pair_distances
from stages.settings.rates import Drops
from stages.support.errors import UserError
from tests.naive_inversion import Hook, NaiveCMI, NaiveFast, norms
from tests.small import CPU, INVERSIONS, form, kind, method, method_class, network, setting


def unfrozen(net):
    """A copy as its authors would have it: nothing frozen."""
    net = copy.deepcopy(net)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = True
    return net.requires_grad_(True)


def trained_statistics(net):
    """Running statistics away from 0 and 1."""
    net.train()
    for _ in range(3):
        net(torch.rand(32, 1, 16, 16))
    return net.eval()


def game_of(name, params=None, **options):
    game = method(name, params, **options)
    trained_statistics(game.teacher.parts[0])
    return game


def kl(t, s):
    return (t.softmax(1) * (t.log_softmax(1) - s.log_softmax(1))).sum(1).mean()


def naive_terms(name, t, s, g_x, teacher, hooks, penultimate):
    """The generator's loss as the benchmark's authors write it."""
    pseudo = F.cross_entropy(t, t.argmax(1))
    p = t.softmax(1).mean(0)
    balance = (p * p.log()).sum()
    if name == "dafl":
        return pseudo + 20 * balance - 0.001 * penultimate[0].abs().mean()
    if name == "zskt":
        return -kl(t, s)
    if name == "dfq":
        return -kl(t, s) + sum(h.r for h in hooks) + pseudo + 20 * balance
    return -F.l1_loss(s, t)


@pytest.mark.parametrize("name", ["dfad", "dafl", "zskt", "dfq"])
def test_a_game_equals_a_loop_that_recomputes_everything(name, fp64):
    game = game_of(name)
    t, s, g = (unfrozen(net) for net in (game.teacher.parts[0], game.student.net, game.generator.net))
    hooks, penultimate = [Hook(module) for module in norms(t)], [None]
    t.net.head.register_forward_hook(lambda module, inputs, out: penultimate.__setitem__(0, inputs[0]))
    opt_s = torch.optim.SGD(s.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    opt_g = torch.optim.Adam(g.parameters(), 1e-3, betas=(0.9, 0.999) if name == "dfad" else (0.5, 0.999))

    def generator_step():
        x = g(torch.randn(8, 8))
        s.train(name == "dfad")
        buffers = copy.deepcopy([*s.buffers()])
        loss = naive_terms(name, t(x), s(x), x, t, hooks, penultimate)
        for buffer, old in zip(s.buffers(), buffers, strict=True):  # S only looks
            buffer.data.copy_(old)
        opt_g.zero_grad()
        loss.backward()
        if name == "dfad":
            nn.utils.clip_grad_norm_(g.parameters(), 5.0)
        opt_g.step()
        s.train()
        return loss.item()

    def student_steps():
        batches = [g(torch.randn(8, 8)).detach() for _ in range(5)]
        for x in batches:
            loss = F.l1_loss(s(x), t(x).detach()) if name == "dfad" else kl(t(x).detach(), s(x))
            opt_s.zero_grad()
            loss.backward()
            opt_s.step()

    for step in range(2):
        rt.seed(0, step)
        scalars = game.step()
        rt.seed(0, step)
        if name == "dfad":
            student_steps()
        theirs = generator_step()
        if name != "dfad":
            student_steps()
        weights = {"dafl": {"balance": 20.0, "activation": 0.001}, "dfq": {"balance": 20.0}}.get(name, {})
        ours = sum(weights.get(key, 1.0) * value.item() for key, value in scalars.items() if key != "S" and "size" not in key)
        assert ours == pytest.approx(theirs, abs=1e-9)
    for mine, other in ((game.student.net, s), (game.generator.net, g)):
        for (key, a), b in zip(mine.named_parameters(), other.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-8), key


def test_the_adversarial_term_vanishes_only_for_a_student_like_the_teacher():
    game = game_of("zskt", student="convnet_8")
    game.step()
    assert game.terms(game.generate(8))["adversarial"][1].item() < 0
    game.student.net.load_state_dict(game.teacher.parts[0].state_dict())
    assert game.terms(game.generate(8))["adversarial"][1].item() == 0


@pytest.mark.parametrize("name", ["zskt", "cmi"])
def test_a_student_that_is_the_teacher_is_refused(name):
    given = setting()
    same = Teacher(given.student)
    with pytest.raises(ValueError, match="share parameters"):
        method_class(name)(replace(given, teacher=same), method_class(name).Params())


def test_fast_equals_a_loop_that_clones_and_hooks(fp64):
    """Three synthesis batches: the second and third meet the moving averages and the adversarial term."""
    game = game_of("fast", {"steps": 3, "warmup": 0, "redraw": 99}, augment=Augment(crop=2, flip=True))
    net = game.teacher.parts[0]
    naive = NaiveFast(
        unfrozen(net.net), unfrozen(game.student.net.net), unfrozen(game.inverter.generator.net), net.normalize,
        lambda x: augmented(x, Augment(crop=2, flip=True)), 3, 2e-3, 0.01, 0.9, (1.1, 10.0, 0.4),
    )  # fmt: skip
    labels = torch.arange(8) % 10
    for batch in range(3):
        rt.seed(0, batch)
        with rt_eval(game):
            images, _ = game.synthesise(labels)
        rt.seed(0, batch)
        theirs, _ = naive.synthesise(torch.randn(8, 8), labels)
        assert torch.allclose(images, theirs, atol=1e-9)
    for mine, other in zip(game.inverter.generator.parameters, naive.g.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-9)


def rt_eval(game):
    from stages.engine.players import in_eval

    return in_eval(game.student.net)


def test_cmi_equals_a_loop_that_follows_its_paper(fp64):
    """Two synthesis batches: the second meets the bank."""
    game = game_of("cmi", {"steps": 3, "bank": 16, "negatives": 6}, augment=Augment(crop=2, flip=True))
    net = game.teacher.parts[0]
    naive = NaiveCMI(
        unfrozen(net.net), unfrozen(game.student.net.net), unfrozen(game.generator), unfrozen(game.heads[0].net), net.normalize,
        (lambda x: augmented(x, Augment(crop=2, flip=True)), lambda x: resized_crop(x, flip=True)),
        3, 1e-3, 0.1, (0.5, 1.0, 1.0, 0.8), 6,
    )  # fmt: skip
    labels = torch.arange(8) % 10
    for batch in range(2):
        rt.seed(0, batch)
        with rt_eval(game):
            images, _ = game.synthesise(labels)
        rt.seed(0, batch)
        redraw(naive.g)
        theirs, _ = naive.synthesise(torch.randn(8, 8), labels)
        naive.bank = [rows.half() for rows in naive.bank]  # as ours keeps them
        assert torch.allclose(images, theirs, atol=1e-9)
    for mine, other in zip(game.heads[0].parameters, naive.h.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-9)
    assert len(game.bank) == 16


@pytest.mark.parametrize("reference", [False, True])
def test_deepinversion_equals_a_loop_that_follows_its_paper(reference, fp64):
    game = game_of("deepinversion", {"steps": 3, "reference": reference}, augment=Augment(flip=True))
    t, s = unfrozen(game.teacher.parts[0]), unfrozen(game.student.net).eval()
    hooks = [Hook(module) for module in norms(t)]
    mean, std = t.normalize.mean, t.normalize.std
    labels = torch.arange(8) % 10
    rt.seed(0)
    with rt_eval(game):
        images, _ = game.synthesise(labels)
    rt.seed(0)
    x = torch.randn(8, 1, 16, 16).requires_grad_()
    optimizer = torch.optim.Adam([x], 0.1, betas=(0.5, 0.99))
    best, kept = math.inf, None
    for _ in range(3):
        down, across = torch.randint(-2, 3, (2,)).tolist()
        seen = torch.roll(x * std + mean, (down, across), (2, 3))
        if torch.rand(()) < 0.5:
            seen = seen.flip(3)
        logits, other = t(seen), s(seen)
        p, q = (other / 3).softmax(1), (logits / 3).softmax(1)
        if reference:
            p, q = p.clamp(0.01, 0.99), q.clamp(0.01, 0.99)
            m = (0.5 * (p + q)).clamp(0.01, 0.99)
            js = 0.5 * F.kl_div(p.log(), m, reduction="batchmean") + 0.5 * F.kl_div(q.log(), m, reduction="batchmean")
            js = js.clamp(0, 1)
        else:
            m = 0.5 * (p + q)
            js = 0.5 * F.kl_div(m.log(), p, reduction="batchmean") + 0.5 * F.kl_div(m.log(), q, reduction="batchmean")
        tv = (x[:, :, :, :-1] - x[:, :, :, 1:]).abs().mean() + (x[:, :, :-1] - x[:, :, 1:]).abs().mean()
        tv = tv + (x[:, :, :-1, :-1] - x[:, :, 1:, 1:]).abs().mean() + (x[:, :, 1:, :-1] - x[:, :, :-1, 1:]).abs().mean()
        loss = F.cross_entropy(logits, labels) + 10 * sum(h.r for h in hooks) - js + 0.001 * tv
        if loss.item() < best:
            best, kept = loss.item(), (x * std + mean).detach().clone()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        x.data = torch.minimum(torch.maximum(x.data, -mean / std), (1 - mean) / std)
    assert torch.allclose(images, kept.clamp(0, 1), atol=1e-9)


def test_the_meta_gradient_of_one_step_is_the_plain_gradient(fp64):
    game = game_of("fast", {"steps": 1, "warmup": 0})
    seen = []
    inner = game.inverter.generator.follow
    game.inverter.generator.follow = lambda gradients: seen.append(gradients) or inner(gradients)
    plain = copy.deepcopy(game.inverter.generator.net).requires_grad_(True)
    before = copy.deepcopy([*game.inverter.generator.parameters])
    labels = torch.arange(8) % 10
    rt.seed(0)
    with rt_eval(game):
        game.synthesise(labels)
        rt.seed(0)
        game.inverter.averages.past = []
        terms, _ = game.inverter.terms(plain(torch.randn(8, 8)), labels, game.asked)
    sum(weight * term for weight, term in terms.values()).backward()
    assert len(seen) == 1, "the meta-generator moves once a synthesis batch"
    for mine, theirs in zip(seen[0], plain.parameters(), strict=True):
        assert torch.allclose(mine, theirs.grad, atol=1e-12)
    assert not any(torch.equal(a, b) for a, b in zip(before, game.inverter.generator.parameters, strict=True))


def test_reptile_moves_the_start_towards_the_end():
    game = game_of("fast", {"steps": 3, "meta": "reptile", "warmup": 0})
    before = copy.deepcopy(game.inverter.generator.net.state_dict())
    game.step()
    assert not torch.equal(before["layers.0.weight"], game.inverter.generator.net.state_dict()["layers.0.weight"])


def test_the_first_layers_are_drawn_anew_once_with_a_scale_around_one():
    """Before batch number warmup + redraw, counted from 1, and before no other."""
    game = game_of("fast", {"warmup": 1, "redraw": 2})
    norm, convolution = game.inverter.generator.net.layers[2], game.inverter.generator.net.layers[4]
    rt.seed(0)
    anew = []
    for batch in range(1, 6):
        norm.weight.data.fill_(7.0)
        convolution.weight.data.fill_(7.0)
        with rt_eval(game):
            images, _ = game.synthesise(game.targets())
        game.pool.append(images=to_uint8(images), logits=torch.zeros(8, 10))
        anew += [batch] * (norm.weight.mean().item() < 1.2)
        assert convolution.weight.mean() > 6
    assert anew == [3]


@pytest.mark.parametrize("name", INVERSIONS)
def test_the_student_is_asked_from_the_last_batch_of_the_warm_up_on(name):
    game = game_of(name, {"warmup": 3})
    asked, pixels = [], torch.zeros(8, 1, 16, 16, dtype=torch.uint8)
    for batch in range(1, 6):
        teacher = torch.randn(8, 10)
        guidance = game.inverter.guidance if name == "fast" else game.guidance
        terms = guidance.terms(torch.rand(8, 1, 16, 16), teacher, torch.arange(8), guidance.norms.running, game.asked)
        asked += [batch] * ("adversarial" in terms)
        game.pool.append(images=pixels, logits=teacher)
    assert asked == [3, 4, 5]


def test_a_pool_is_drawn_from_without_replacement():
    """A pass shows every row once; batches go on over the border of two passes, so that none is smaller."""
    ring = Ring(12, {"x": ((), torch.int64)}, CPU, "method.m.pool")
    ring.append(x=torch.arange(10))
    rt.seed(0)
    passes = ring.passes(4)
    drawn = torch.cat([next(passes) for _ in range(10)]).tolist()
    assert len(drawn) == 40
    for start in range(0, 40, 10):
        assert sorted(drawn[start : start + 10]) == list(range(10))
    assert drawn[:10] != drawn[10:20]
    one = Ring(12, {"x": ((), torch.int64)}, CPU, "method.m.pool")
    one.append(x=torch.arange(3))
    assert len(next(one.passes(8))) == 8


def test_a_pool_that_is_smaller_than_what_comes_keeps_the_newest_and_counts_all():
    ring = Ring(5, {"x": ((), torch.int64)}, CPU, "method.m.pool")
    for batch in torch.arange(24).split(8):
        ring.append(x=batch)
    assert ring.total == 24
    assert sorted(ring.rows["x"].tolist()) == [19, 20, 21, 22, 23]


def test_an_inversion_shows_its_student_the_whole_pool_in_turn():
    game = game_of("fast", {"warmup": 1, "student_steps": 2})
    shown, inner = [], game.student_batch
    game.student_batch = lambda rows: shown.extend(rows.tolist()) or inner(rows)
    game.step()
    assert sorted(shown) == list(range(16))


def test_cmi_without_its_contrast_looks_once_and_remembers_nothing():
    game = game_of("cmi", {"contrast": 0.0})
    with rt_eval(game):
        game.synthesise(game.targets())
    assert game.teacher.backwards == 2 * 8  # two steps of one view
    assert "head" not in game.players
    assert "bank" not in game.memories


def test_dfads_generator_falls_with_the_student_and_its_gradient_is_cut():
    game = game_of("dfad", {"schedule": Rescheduled(rate=Drops(at=[0.2, 0.4], by=0.1), weight_decay=5e-4)})
    for done, rate in ((0.0, 1.0), (0.19, 1.0), (0.2, 0.1), (0.5, 0.01), (1.0, 0.01)):
        for player, base in ((game.generator, 1e-3), (game.student, 0.1)):
            player.anneal(done)
            assert player.optimizer.param_groups[0]["lr"] == pytest.approx(base * rate)
    game.teacher.parts[0].net.head.weight.data *= 1e4
    game.generator_step()
    assert torch.stack([p.grad.norm() for p in game.generator.parameters]).norm().item() == pytest.approx(5, rel=1e-3)
    assert game_of("dfad", {"damped": True}).generator.clip is None


def test_dfads_generator_b_makes_images_above_32_pixels():
    net = TransposedGenerator(256, (3, 128, 128))
    assert sum(parameter.numel() for parameter in net.parameters()) == 11_243_203
    images = TransposedGenerator(8, (3, 48, 64), 4)(torch.randn(4, 8))
    assert images.shape == (4, 3, 48, 64)
    assert 0 <= images.min() < images.max() <= 1
    assert isinstance(method("dfad", size=48).generator.net, TransposedGenerator)
    assert not isinstance(method("dfad", size=32).generator.net, TransposedGenerator)
    assert method("dfad", size=40).step()  # which 16 does not divide


def test_momentum_mixes_the_past_in_and_scales_the_gradient():
    averages = method("fast").inverter.averages
    first = [(torch.tensor([1.0]), torch.tensor([2.0]))]
    assert averages.blend(first) == first
    averages.update(first)
    now = torch.tensor([11.0], requires_grad=True)
    ((mean, _),) = averages.blend([(now, torch.tensor([2.0]))])
    assert mean.item() == pytest.approx(0.9 * 1 + 0.1 * 11)
    mean.backward()
    assert now.grad.item() == pytest.approx(0.1)


def test_contrast_teaches_through_the_local_view_of_the_batch_alone():
    game = game_of("cmi")
    local, views = (torch.randn(8, 8 + 16 + 32, requires_grad=True) for _ in range(2))
    game.bank.append(local=torch.randn(12, 56), views=torch.randn(12, 56))
    game._contrast(local, views).backward()
    assert local.grad.abs().sum() > 0
    assert views.grad is None


def test_contrast_adds_the_means_of_both_groups():
    local, views = (F.normalize(torch.randn(5, 4), dim=1) for _ in range(2))
    each = [-(local[i] @ views[i] / 0.1 - torch.logsumexp(views @ local[i] / 0.1, 0)) for i in range(5)]
    assert synthesis.contrast(local, views, 0.1, 2).item() == pytest.approx(
        (sum(each[:2]) / 2 + sum(each[2:]) / 3).item(), rel=1e-5
    )
    assert synthesis.contrast(local, views, 0.1, 5).item() == pytest.approx((sum(each) / 5).item(), rel=1e-5)
    half = local.bfloat16(), views.bfloat16()  # as a forward in bf16 gives them
    assert torch.equal(synthesis.contrast(*half, 0.1, 2), synthesis.contrast(half[0].float(), half[1].float(), 0.1, 2))


def test_wrn40_2_has_2704_batch_norm_channels():
    teacher = Teacher(network("wrn40_2", 3, 32))
    with listening(batch_norms(teacher)) as heard:
        teacher(torch.rand(2, 3, 32, 32))
    assert pooled(heard).shape == (2, 2704)
    assert [tuple(layer.weight.shape) for layer in Projection(2704).layers if isinstance(layer, nn.Linear)] == [
        (2704, 2704),
        (256, 2704),
    ]


def test_hooks_stand_only_while_somebody_listens():
    teacher = Teacher(trained_statistics(network("convnet_4")))
    with listening(batch_norms(teacher)) as heard:
        teacher(torch.rand(4, 1, 16, 16))
    before = heard[0]
    teacher(torch.rand(4, 1, 16, 16))
    assert heard[0] is before
    assert not any(module._forward_pre_hooks for module in teacher.modules())
    x = heard[1]
    mean, var = moments(heard)[1]
    assert torch.allclose(mean, x.mean((0, 2, 3)))
    assert torch.allclose(var, x.var((0, 2, 3), unbiased=False), atol=1e-6)
    running = BatchNorms(teacher).running
    assert synthesis.statistics_mismatch(running, running).item() == 0


def test_moments_and_their_gradient_against_var_mean(fp64):
    x = torch.randn(5, 3, 4, 6, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: moments([x])[0], x)
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    assert torch.allclose(moments([x])[0][0], mean)
    assert torch.allclose(moments([x])[0][1], var)
    assert moments([torch.full((2, 1, 3, 3), 0.5)])[0][1].item() == 0


def test_a_teacher_without_a_linear_layer_is_named():
    with pytest.raises(UserError, match="squeezenet"):
        heads(Teacher(nn.Sequential(nn.Conv2d(1, 10, 16)), name="squeezenet"))


def test_the_lowest_loss_is_kept_as_a_copy():
    lowest, live = Lowest(), torch.zeros(3)
    for loss, value in ((3.0, 1.0), (1.0, 2.0), (2.0, 3.0)):
        live.fill_(value)
        lowest.offer(torch.tensor(loss), live)
    live.fill_(9.0)
    assert lowest.kept[0].tolist() == [2.0, 2.0, 2.0]


def test_hooks_hear_a_compiled_teacher_too():
    """torch.compile passes over hooks that come later, so who listens goes around it."""
    net = trained_statistics(network("convnet_4"))
    teacher = Teacher(net)
    expected = teacher(torch.ones(2, 1, 16, 16))
    net.compile(backend="eager")
    teacher(torch.ones(2, 1, 16, 16))
    logits, heard = logits_and_inputs(teacher, torch.ones(2, 1, 16, 16), batch_norms(teacher))
    assert all(len(x) == 2 for x in heard)
    assert torch.allclose(logits, expected, atol=1e-6)


def test_a_ring_keeps_the_newest_rows():
    ring = Ring(5, {"x": ((), torch.int64)}, CPU, "method.m.pool")
    assert ring.draw(4).tolist() == []
    for start in (0, 3):
        ring.append(x=torch.arange(start, start + 3))
    assert sorted(ring.rows["x"].tolist()) == [1, 2, 3, 4, 5]
    assert len(ring) == 5
    assert sorted(ring.draw(9).tolist()) == [0, 1, 2, 3, 4]
    again = Ring(5, {"x": ((), torch.int64)}, CPU, "method.m.pool")
    again.load(ring.state())
    ring.append(x=torch.tensor([6, 7]))
    again.append(x=torch.tensor([6, 7]))
    assert torch.equal(ring.rows["x"], again.rows["x"])
    ring.append(x=torch.arange(100, 120))
    assert ring.rows["x"].sort().values.tolist() == [115, 116, 117, 118, 119]


def test_a_checkpoint_takes_no_more_of_a_ring_than_is_in_it():
    ring = Ring(100_000, {"x": ((), torch.int64)}, CPU, "method.m.pool")
    ring.append(x=torch.arange(10))
    torch.save(ring.state(), file := io.BytesIO())
    assert len(file.getvalue()) < 10_000


def test_a_ring_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"method.cmi.pool: 10,000,000,000 rows need .* GiB"):
        Ring(10**10, {"images": ((3, 32, 32), torch.uint8)}, CPU, "method.cmi.pool")


def test_a_resized_crop_shows_a_part_of_its_own_image():
    """Of a ramp it shows a ramp: between a quarter and all of the area, within the image's range, each image another part."""
    ramp = torch.linspace(0, 1, 64).expand(200, 1, 64, 64)
    rt.seed(0)
    views = resized_crop(ramp)
    width = (views[:, 0, 32, 48] - views[:, 0, 32, 16]) * 63 / 32
    assert views.min() >= 0
    assert views.max() <= 1
    assert 0.25 * math.sqrt(3 / 4) - 0.05 < width.min() < 0.6
    assert 0.9 < width.max() < 1.02
    assert len(set(width.tolist())) > 150
    assert (resized_crop(ramp, flip=True)[:, 0, 32, 48] < 0.5).float().mean() > 0.2


def test_generators_have_the_papers_sizes():
    def count(net):
        return sum(parameter.numel() for parameter in net.parameters())

    assert count(Generator(256, (3, 32, 32))) == 4_581_955
    assert count(Generator(512, (3, 32, 32))) == 8_776_259
    assert count(Generator(256, (3, 32, 32), (128, 128, 64))) == 2_328_899
    standardised = Generator(256, (3, 32, 32), (128, 128, 64), bias=True, standardised=True)
    assert count(standardised) == 2_329_091
    images = standardised(torch.randn(16, 256))
    assert torch.allclose(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(images.var((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-2)


def test_dense_logits_are_summed_over_classes_and_averaged_over_the_rest():
    t, s = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    rows = [x.permute(0, 2, 3, 1).reshape(-1, 5) for x in (t, s)]
    for loss in (distillation.kl_divergence, distillation.discrepancy):
        assert loss(t, s).item() == pytest.approx(loss(*rows).item(), rel=1e-5)
    assert distillation.balance(t).item() == pytest.approx(distillation.balance(rows[0]).item(), rel=1e-5)
    assert distillation.confidence(t).item() == pytest.approx(distillation.confidence(rows[0]).item(), rel=1e-5)
    assert distillation.discrepancy(torch.cat([t, t]), torch.cat([s, s])).item() == pytest.approx(
        distillation.discrepancy(t, s).item()
    )


def test_balance_states_its_base():
    logits = torch.randn(8, 10)
    assert distillation.balance(logits, math.e).item() == pytest.approx(distillation.balance(logits).item() / 1.442695, rel=1e-5)
    assert distillation.balance(torch.zeros(4, 10), math.e).item() == pytest.approx(-math.log(10), rel=1e-6)


def test_jensen_shannon_is_zero_for_equals_and_at_most_ln_2():
    logits = torch.randn(6, 10)
    assert distillation.jensen_shannon(logits, logits).item() == pytest.approx(0, abs=1e-6)
    one, other = F.one_hot(torch.tensor([0]), 4) * 1e4, F.one_hot(torch.tensor([1]), 4) * 1e4
    assert distillation.jensen_shannon(one, other).item() == pytest.approx(math.log(2), rel=1e-4)


def test_disagreeing_samples_count_as_nothing_but_stay_in_the_mean():
    t = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    s = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert distillation.kl_where_agreed(t, s).item() == pytest.approx(distillation.kl_divergence(t[:1], s[:1]).item() / 2)


def test_frechet_distance_against_scipy():
    a, b = torch.randn(400, 6) @ torch.randn(6, 6), torch.randn(300, 6) + 1
    c1, c2 = torch.cov(a.T).numpy(), torch.cov(b.T).numpy()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + (c1 + c2 - 2 * sqrtm(c1 @ c2).real).trace()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-3)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a[:4], a[:4]) == pytest.approx(0, abs=1e-3)  # fewer images than dimensions


def test_distances_of_all_pairs():
    assert sorted(pair_distances(torch.tensor([[0.0], [1.0], [3.0]])).tolist()) == [1.0, 2.0, 3.0]


def test_labels_are_even_over_the_classes():
    game = method("cmi", {"batch": 24, "pool": 48})
    counts = torch.bincount(game.targets(), minlength=10)
    assert counts.sum() == 24
    assert counts.min() >= 2
    assert counts.max() <= 3


@pytest.mark.learned
@pytest.mark.parametrize("name", INVERSIONS)
def test_inverted_images_are_what_they_were_asked_to_be(name, teacher_of_digits):
    """On a trained teacher: the statistics come closer and T takes most images for their labels."""
    given = setting(teacher="convnet_8", steps=1)
    params = {
        "deepinversion": {"steps": 300, "bn": 1.0, "adversarial": 0.0},
        "cmi": {"steps": 100, "lr": 5e-3, "latent": 64, "generator_width": 16, "adversarial": 0.0, "bank": 64, "negatives": 8},
        "fast": {"steps": 100, "lr": 5e-3, "latent": 64, "generator_width": 16, "adversarial": 0.0, "confidence": 1.0, "bn": 1.0},
    }[name]
    of = method_class(name)
    given = replace(given, teacher=Teacher(teacher_of_digits))
    game = of(given, of.Params(**params, batch=40, pool=80))
    rt.seed(0)
    labels = game.targets()
    noise = torch.rand(40, 1, 16, 16)
    images, _ = game.synthesise(labels)
    right = (game.teacher(images).argmax(1) == labels).float().mean().item()
    guidance = Guidance(game.teacher, game.params)
    mismatch = [
        synthesis.statistics_mismatch(moments(guidance.norms.ask(x)[1]), guidance.norms.running).item() for x in (noise, images)
    ]
    assert right >= 0.6
    assert mismatch[1] < mismatch[0] / 3


@pytest.fixture(scope="module")
def teacher_of_digits():
    """A small classifier of scikit-learn's digits, trained for a few seconds."""
    images = Digits(source="digits").read(form())
    rt.seed(0)
    net = network("convnet_8")
    schedule = Schedule(300, 64, 64, 0.1, 5e-4)
    given = Setting(kind(), Teacher(nn.Identity()), net, schedule, 0, CPU, {"in_domain": images})
    game = supervised.Method(given, supervised.Method.Params())
    for _ in range(300):
        game.step()
    return net.requires_grad_(False).eval()
