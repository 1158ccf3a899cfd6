"""Impressions against naive loops and total variance; templates, decoding and translation; the method that decodes a memory."""

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from stages.datasets.examples import pack
from stages.engine import runtime as rt
from stages.engine.teacher import Teacher
from stages.impressions import probing
from stages.impressions.probing import Labelled
from stages.losses import impressions
from stages.methods.bases.method import Schedule
from stages.methods.blocks.impression_decoder import Decoder, translate
from stages.networks.template import Impression, Template, joined
from stages.reporting.impressions import expected, written
from stages.support.errors import UserError
from tests.small import MEAN, STD, answered, method, method_class, network, setting, taught, with_data

EPSILON = 1e-6


def template(name="convnet_4", **options):
    """Of a small network with running statistics of its own."""
    torch.manual_seed(3)
    net = network(name).train()
    for _ in range(3):
        net(torch.rand(32, 1, 16, 16))
    return replace(Template.of(Teacher(net, name=name), torch.zeros(1, 1, 16, 16)), **options)


def pictures(n=6, seed=0):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def responses(fp64):
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 4


@pytest.mark.parametrize("grid", [1, 2, 4, 8, 16])
def test_statistics_are_of_one_images_places_in_each_cell(responses, grid):
    mean, deviation = impressions.statistics(responses, grid)
    side = min(grid, 8)
    assert mean.shape == deviation.shape == (5, 3, side, side)
    for n, c, i, j in itertools.product(range(5), range(3), range(side), range(side)):
        step = 8 // side
        cell = responses[n, c, i * step : (i + 1) * step, j * step : (j + 1) * step].numpy()
        assert mean[n, c, i, j].item() == pytest.approx(cell.mean())
        assert deviation[n, c, i, j].item() == pytest.approx(math.sqrt(cell.var() + EPSILON))
    assert torch.allclose(impressions.statistics(responses, grid, deviations=False)[0], mean)


def test_statistics_have_the_gradients_of_plain_formulas_and_bounded_ones_without_variance(responses):
    weights = torch.randn(2, 5, 3, 1, 1, generator=torch.Generator().manual_seed(2))
    found, plain = (responses.clone().requires_grad_() for _ in range(2))
    mean, deviation = impressions.statistics(found)
    (weights[0] * mean + weights[1] * deviation).sum().backward()
    variance = plain.var((2, 3), correction=0, keepdim=True)
    (weights[0] * plain.mean((2, 3), keepdim=True) + weights[1] * (variance + EPSILON).sqrt()).sum().backward()
    assert torch.allclose(found.grad, plain.grad, atol=1e-10)
    flat = torch.ones(1, 1, 1, 1, requires_grad=True)
    sum(impressions.statistics(flat)).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_a_set_has_the_statistics_of_all_its_places_together(responses):
    mean, deviation = impressions.pooled(impressions.statistics(responses))
    for c in range(3):
        every = responses[:, c].numpy()
        assert mean[0, c].item() == pytest.approx(every.mean(), abs=1e-10)
        assert deviation[0, c].item() == pytest.approx(math.sqrt(every.var() + EPSILON), abs=1e-10)


def test_the_share_of_variance_between_images(responses):
    given = impressions.statistics(responses)
    shares = [responses[:, c].mean((1, 2)).numpy().var() / responses[:, c].numpy().var() for c in range(3)]
    assert impressions.between(given) == pytest.approx(np.mean(shares), abs=1e-5)
    alike = responses[:1].expand(5, -1, -1, -1)
    assert impressions.between(impressions.statistics(alike)) == pytest.approx(0, abs=1e-12)


def test_drawn_aims_vary_as_the_images_do(responses):
    torch.manual_seed(0)
    mean, deviation = given = impressions.statistics(responses)
    aims = impressions.drawn(given, 20000)
    assert torch.allclose(aims[0].mean(0), mean.mean(0), atol=0.01)
    assert torch.allclose(aims[0].var(0), mean.var(0, correction=0), rtol=0.05)
    assert torch.allclose(aims[1].square().mean(0), deviation.square().mean(0))


def test_distances_are_means_of_squares_in_units_of_each_layers_scale():
    one, other = template(scales=(0.5, 2.0, 1.0)), template(scales=(0.5, 2.0, 1.0))
    a, b = one.encode(pictures()), other.encode(pictures(seed=1))
    naive = [
        sum(
            ((x[i] - y[i]).square().sum() / x[i].numel() / scale).item()
            for layer, given, scale in zip(a.layers, b.layers, one.scales, strict=True)
            for x, y in zip(layer, given, strict=True)
        )
        / 3
        for i in range(6)
    ]
    assert a.distance(b).tolist() == pytest.approx(naive, rel=1e-5)
    assert torch.allclose(a.distance(b), b.distance(a))
    assert torch.equal(a.distance(a), torch.zeros(6))
    assert torch.allclose(a.relations(b).diagonal(), a.distance(b), rtol=1e-5)
    assert torch.allclose(a.relations(b)[1, 4], a[1:2].distance(b[4:5])[0], rtol=1e-5)


def test_scales_are_the_variances_of_the_means_over_the_reference():
    one = template()
    scaled = one.scaled(pictures(40).split(16))
    means = [layer[0] for layer in one.encode(pictures(40)).layers]
    assert scaled.scales == pytest.approx([mean.flatten(1).var(0, correction=0).mean().item() for mean in means], rel=1e-4)


def test_codes_know_nothing_of_the_batch_and_a_set_of_copies_is_its_image():
    one, x = template(), pictures(8)
    whole, order = one.encode(x), torch.tensor([5, 2, 7, 0, 1, 3, 6, 4])
    for given, moved in zip(whole[order].layers, one.encode(x[order]).layers, strict=True):
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(given, moved, strict=True))
    for given, alone in zip(whole.layers, one.encoded(x.split(1)).layers, strict=True):
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(given, alone, strict=True))
    copies = one.encode(x[:1].expand(5, -1, -1, -1)).pooled()
    for given, alone in zip(copies.layers, whole[:1].layers, strict=True):
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(given, alone, strict=True))


def test_codes_of_two_templates_are_not_compared(tmp_path):
    one = template()
    code, x = one.encode(pictures()), pictures()
    wide = Template.of(Teacher(network("convnet_4")), torch.zeros(1, 1, 16, 16))
    for other in (replace(one, grid=2), replace(one, deviations=False), replace(one, scales=(1.0, 1.0, 2.0)), wide):
        with pytest.raises(ValueError, match="two templates"):
            code.distance(other.encode(x))
        with pytest.raises(ValueError, match="two templates"):
            code.shifted(code, other.encode(x))
    with pytest.raises(ValueError, match="sizes of image"):
        code.relations(one.encode(torch.rand(2, 1, 20, 20)))
    with pytest.raises(ValueError, match="two templates"):
        joined([code, wide.encode(x)])
    code.save(tmp_path / "code.safetensors")
    again = Impression.load(tmp_path / "code.safetensors")
    assert torch.equal(again.distance(code), torch.zeros(6))
    assert torch.equal(again.vectors(), code.vectors())
    with pytest.raises(UserError, match="is missing"):
        Impression.load(tmp_path / "none.safetensors")


def test_a_template_that_hears_other_layers_is_another():
    one = template()
    fewer = replace(Template.of(one.net, torch.zeros(1, 1, 16, 16), one.ends[1:]), scales=one.scales)
    elsewhere = replace(Template.of(one.net, torch.zeros(1, 1, 16, 16), [(end, True) for end, _ in one.ends]), scales=one.scales)
    assert len({fewer.identity, elsewhere.identity, one.identity, template().identity}) == 3


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("convnet_4", [("net.features.1", False), ("net.features.4", False), ("net.features.7", False)]),
        ("wrn16_1", [(f"net.groups.{g}.1.bn2", False) for g in range(3)]),
        ("resnet20", [(f"net.layer{g}.2.bn2", False) for g in (1, 2, 3)]),
        ("lenet_4", [("net.stages.0", True), ("net.stages.1", True)]),
        ("vgg11", [(f"net.features.{place}", False) for place in (5, 12, 19, 25)]),  # its stages end in batch norms themselves
    ],
)
def test_a_template_listens_to_the_last_batch_norm_of_each_stage_or_to_its_output(name, ends):
    net = network(name)
    one = Template.of(Teacher(net), torch.zeros(1, 1, 16, 16))
    names = {module: key for key, module in net.named_modules()}
    assert [(names[module], output) for module, output in one.ends] == ends
    heard = []
    hooks = [
        module.register_forward_hook(lambda m, x, y: heard.append(y.clone()))
        if output
        else module.register_forward_pre_hook(lambda m, x: heard.append(x[0].clone()))
        for module, output in one.ends
    ]
    with torch.no_grad():
        logits, responses = one.respond(pictures())
    for hook in hooks:
        hook.remove()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(responses, heard, strict=True))
    assert torch.equal(logits, net(pictures()))


def test_what_batch_norm_remembers_is_the_impression_of_its_training_set():
    torch.manual_seed(0)
    net, data = network("convnet_4"), pictures(64)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        net.train()(data)
    one = Template.of(Teacher(net), torch.zeros(1, 1, 16, 16))
    seen, remembered = one.encode(data).pooled(), one.remembered()
    for given, kept in zip(seen.layers, remembered.layers, strict=True):
        assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(given, kept, strict=True))
    means = replace(one, deviations=False)
    assert means.encode(data).pooled().distance(means.remembered()).item() == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="not on a grid of 2 x 2"):
        replace(one, grid=2).remembered()
    with pytest.raises(UserError, match="keeps no running statistics"):
        Template.of(Teacher(network("lenet_4"), name="lenet_4"), torch.zeros(1, 1, 16, 16)).remembered()


def test_decoding_comes_close_and_each_image_goes_its_own_way():
    one = template().scaled(pictures(32, seed=5).split(16))
    decoder, aims = Decoder(one, MEAN[:1], STD[:1], steps=150), one.encode(pictures(4))
    before = copy.deepcopy(one.net.state_dict())
    torch.manual_seed(0)
    made, first, last = decoder(aims)
    assert made.shape == (4, 1, 16, 16)
    assert made.min() >= 0
    assert made.max() <= 1
    assert (last < 0.1 * first).all()
    assert all(torch.equal(value, before[key]) for key, value in one.net.state_dict().items())
    starts = pictures(4, seed=7)
    few = replace(decoder, steps=5)
    together, alone = few(aims, starts)[0], few(aims[1:2], starts[1:2])[0]
    assert torch.allclose(together[1:2], alone, atol=1e-3)


def test_relations_fall_with_the_distance_in_units_of_the_median():
    distances = torch.tensor([[0.0, 1, 4], [1, 0, 2], [4, 2, 0]])
    assert torch.allclose(impressions.similarity(distances), (-distances / 2).exp())


def test_an_aim_of_images_of_another_size_is_refused():
    one = template()
    with torch.no_grad():
        wide = one.encode(torch.rand(2, 1, 32, 32))
    with pytest.raises(ValueError, match="two templates or sizes"):
        Decoder(one, MEAN[:1], STD[:1], steps=1)(wide)


def test_shifting_by_nothing_leaves_an_impression_and_by_a_set_moves_it():
    one = template()
    a, b, x = (one.encode(pictures(seed=seed)) for seed in range(3))
    for given, same in zip(x.layers, x.shifted(a.pooled(), a.pooled()).layers, strict=True):
        assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(given, same, strict=True))
    moved = x.shifted(a.pooled(), b.pooled(), 0.5)
    for given, source, target, found in zip(x.layers, a.pooled().layers, b.pooled().layers, moved.layers, strict=True):
        assert torch.allclose(found[0], given[0] + 0.5 * (target[0] - source[0]))
        assert torch.allclose(found[1], given[1] * (target[1] / source[1]).sqrt())


def test_a_translated_image_comes_nearer_to_the_other_set_and_keeps_its_layout():
    one = template().scaled(pictures(32, seed=5).split(16))
    dark, bright = pictures(8) * 0.4, 0.6 + pictures(8, seed=1) * 0.4
    sets = [one.encode(x).pooled() for x in (dark, bright)]
    made = translate(Decoder(one, MEAN[:1], STD[:1], steps=100), dark[:4], *sets)
    near = [one.encode(x).distance(sets[1]).mean() for x in (dark[:4], made)]
    assert near[1] < 0.5 * near[0]
    torch.manual_seed(0)
    rolled = translate(Decoder(one, MEAN[:1], STD[:1], steps=100, shift=2), dark[:4], *sets)
    assert torch.equal(rolled, made)  # its content is compared place by place, so nothing is moved
    shuffled = dark[:4].flatten(1)[:, torch.randperm(256, generator=torch.Generator().manual_seed(0))].view(4, 1, 16, 16)
    assert probing.layout(dark[:4], made) > probing.layout(dark[:4], shuffled) + 0.3


def test_layouts_are_correlated_by_their_quarters():
    x, y = pictures(3), pictures(3, seed=1)
    cells = lambda z: z.view(1, 4, 4, 4, 4).mean((2, 4)).flatten().numpy()  # noqa: E731
    naive = [np.corrcoef(cells(a), cells(b))[0, 1] for a, b in zip(x, y, strict=True)]
    assert probing.layout(x, y) == pytest.approx(np.mean(naive), abs=1e-5)


def test_neighbours_vote_by_standardised_codes():
    """Against a plain loop: nearest five by codes standardised by the gallery, each layer over the root of its channels."""
    one, gallery, queries = (
        template(),
        Labelled(pictures(30), torch.arange(30) % 3),
        Labelled(pictures(9, 1), torch.arange(9) % 3),
    )
    found = dict(probing.by_neighbours(one, gallery, queries))
    assert list(found) == ["mean + std", *(f"mean + std, layer {i}" for i in (1, 2, 3)), "mean"]
    blocks = []
    for ours, theirs in zip(one.encode(gallery.images).layers, one.encode(queries.images).layers, strict=True):
        a, b = (torch.cat([each.flatten(1) for each in given], 1).double().numpy() for given in (ours, theirs))
        centre, spread = a.mean(0), np.where(a.std(0) == 0, 1, a.std(0))
        blocks.append([(x - centre) / spread / math.sqrt(a.shape[1]) for x in (a, b)])
    a, b = (np.concatenate(parts, 1) for parts in zip(*blocks, strict=True))
    hits = 0
    for row, label in zip(b, queries.labels.tolist(), strict=True):
        nearest = gallery.labels[np.argsort(((a - row) ** 2).sum(1))[:5].copy()].tolist()
        hits += min(range(3), key=lambda k: (-nearest.count(k), k)) == label
    assert found["mean + std"] == pytest.approx(100 * hits / 9)


def test_each_class_is_translated_to_one_further_on():
    one = template()
    gallery = Labelled(pictures(30), torch.arange(30) % 3)
    images = Labelled(pictures(9, 1), torch.arange(9) % 3).even(2)
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    decoder = Decoder(one, MEAN[:1], STD[:1], steps=2)
    made, said = probing.translated(decoder, one, gallery.sets(one), images, 1, True)
    aims = torch.tensor([1, 1, 2, 2, 0, 0])
    assert made.shape == (6, 1, 16, 16)
    assert said["before"] == pytest.approx(100 * (one.net.logits(images.images).argmax(1) == aims).float().mean().item())
    assert said["after"] == pytest.approx(100 * (one.net.logits(made).argmax(1) == aims).float().mean().item())
    sets = gallery.sets(one)
    alone = translate(decoder, images.images[4:], sets[2], sets[0])
    assert torch.allclose(made[4:], alone, atol=1e-4)


def test_aims_of_the_method_are_drawn_around_what_is_remembered():
    game = method("impression", batch=4)
    torch.manual_seed(0)
    aims = game.aims(4000)
    for (mean, deviation), layer, kappa in zip(aims.layers, game.remembered.layers, game.kappa, strict=True):
        assert 0 < kappa < 1
        variance = layer[1].square()
        assert torch.allclose(mean.mean(0, keepdim=True), layer[0], atol=0.1 * layer[1].max().item())
        assert mean.var(0).mean().item() == pytest.approx((kappa * variance).mean().item(), rel=0.05)
        assert torch.allclose(deviation[:1].square(), (1 - kappa) * variance)
    assert method("impression", {"spread": 0.0}, batch=4).kappa == [0.0] * 3


@pytest.mark.learned
def test_decoded_images_come_near_their_aims_and_to_their_classes_as_far_as_that_weighs():
    data = load_digits()
    pixels = torch.from_numpy(data.images[:1200] * 15.9).to(torch.uint8)[:, None].repeat_interleave(2, 2).repeat_interleave(2, 3)
    examples = pack(pixels, torch.from_numpy(data.target[:1200]).long(), tuple(map(str, range(10))))
    teacher = taught("convnet_8", examples, Schedule(300, 64, 64, 0.1, 5e-4), [0.3], [0.37])
    of, right = method_class("impression"), []
    for confidence in (0.0, 30.0):
        given = replace(setting(steps=1), teacher=teacher, mean=[0.3], std=[0.37])
        given = answered(with_data(given, pool=examples.subset(torch.arange(500)).unlabelled()))
        game = of(given, of.Params(batch=40, pool=80, steps=100, lr=0.5, confidence=confidence))
        rt.seed(0)
        labels = game.targets()
        images, said = game.synthesise(labels)
        right.append((game.teacher(images).argmax(1) == labels).float().mean().item())
        assert said["impression"] < 0.6 * said["impression_first"] or confidence
    assert right[1] >= right[0] + 0.15


def tables(trained=(50.0, 46.0), random=30.0, layers=(30.0, 40.0, 54.0)):
    """Made-up findings of two networks of each sort."""
    near, decoding, moved = [{"code": "pixels", "template": "none", "seed": 0, "top1": 25.0}], [], []
    for seed in (0, 1):
        for what, (both, means) in (("trained", trained), ("random", (random, random - 2))):
            near += [{"code": "mean + std", "template": what, "seed": seed, "top1": both + seed}]
            near += [{"code": "mean", "template": what, "seed": seed, "top1": means + seed}]
            each = layers if what == "trained" else layers[::-1]
            near += [
                {"code": f"mean + std, layer {i}", "template": what, "seed": seed, "top1": top1} for i, top1 in enumerate(each, 1)
            ]
            for code, found in (("mean + std", both), ("mean", means)):
                decoding.append(
                    {"code": code, "template": what, "seed": seed, "first": 10.0, "last": 0.5, "agree": 90.0, "retrieved": found}
                )
        moved += [
            {"code": code, "template": "trained", "seed": seed, "before": 1.0, "after": 40.0, "layout": 0.9 - 0.1 * i}
            for i, code in enumerate(("shifted", "replaced"))
        ]
    return map(pd.DataFrame, (near, decoding, moved))


def test_what_is_expected_is_said_to_be_so_or_not():
    assert all(so for _, so in expected(*tables()))
    wrong = dict(expected(*tables(trained=(46.0, 50.0))))
    assert not wrong["trained, mean + std above mean alone"]
    assert not wrong["found by another network: mean + std above mean alone"]
    assert not dict(expected(*tables(random=60.0)))["trained, mean alone above random weights"]
    assert not dict(expected(*tables(layers=(30.0, 54.0, 40.0))))["accuracy rises with every layer of trained networks"]
    text = written("digits", {"voters": 84}, *tables())
    assert "| mean + std          | trained    | 50.50 ± 6.35    |" in text
    assert "- yes: decoding distances fall by 90 %" in text
    assert text.rstrip().endswith("voters: 84.")
