"""Pool weights, against a dense solver on a small case, and against per-image sums."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from stages import curate
from stages.curation import weights as of
from stages.datasets.examples import LOGITS
from stages.networks.deviations import deviations
from stages.networks.taps import batch_norms
from tests.small import setting


def objective(w, d, penalty):
    return float(np.square(w @ d).sum() + penalty * (w * np.log(np.maximum(w, 1e-300) * len(w))).sum())


def test_weights_reach_the_optimum_of_a_dense_solver():
    torch.manual_seed(0)
    d = torch.randn(20, 6, dtype=torch.float64) + 1.0
    w, penalty = of.matching(d)
    rows = d.numpy()
    solved = minimize(
        objective,
        np.full(20, 1 / 20),
        (rows, penalty),
        method="SLSQP",
        bounds=[(1e-12, 1)] * 20,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"maxiter": 1000, "ftol": 1e-12},
    )
    assert solved.success
    assert w.sum().item() == pytest.approx(1)
    assert objective(w.numpy(), rows, penalty) == pytest.approx(solved.fun, rel=1e-3)
    assert objective(w.numpy(), rows, penalty) < 0.5 * objective(np.full(20, 1 / 20), rows, penalty)


def test_weights_are_worth_a_fifth_of_the_images_at_least():
    torch.manual_seed(0)
    d = torch.randn(200, 3) + 3
    d[:2] = torch.tensor([[-1.0, 0, 0], [1, 0, 0]])  # two images that would do alone
    w, penalty = of.matching(d)
    assert of.effective(w) >= 40
    assert penalty > of.FIRST
    assert w[:2].min() > w[2:].mean()


def test_images_that_match_are_drawn_and_others_are_not():
    torch.manual_seed(0)
    good, bad = torch.randn(100, 8) * 0.5, torch.randn(100, 8) * 0.5 + 4
    w, _ = of.matching(torch.cat([good, bad]))
    assert w[:100].sum() > 0.95


def test_a_sketch_keeps_the_length_of_sums():
    torch.manual_seed(0)
    d = torch.randn(50, 4000) + 0.1
    sketches, w = of.sketched(d.split(7)), torch.rand(50).softmax(0)
    for sketch in sketches:
        assert sketch.shape == (50, of.SKETCH)
        assert of.mismatch(w, sketch) == pytest.approx(of.mismatch(w, d), rel=0.2)
    assert all(torch.equal(sketch, d[:, :9]) for sketch in of.sketched(d[:, :9].split(7)))


def test_the_second_sketch_does_not_flatter_the_weights_that_fit_the_first():
    """On noise of more numbers than a sketch has: the first is fitted below the truth, the second says about the truth."""
    torch.manual_seed(0)
    d = torch.randn(200, 20_000)
    first, second = of.sketched(d.split(50))
    w, _ = of.matching(first)
    truth = of.mismatch(w, d)
    assert of.mismatch(w, first) < 0.97 * truth
    assert of.mismatch(w, second) == pytest.approx(truth, rel=0.15)


def test_class_deviations_are_zero_for_even_classes():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    w = torch.tensor([0.4, 0.6])
    expected = 3 * sum((float(w @ p[:, k]) - 1 / 3) ** 2 for k in range(3))
    assert of.mismatch(w, of.class_deviations(p)) == pytest.approx(expected)
    assert of.mismatch(torch.full((3,), 1 / 3), of.class_deviations(torch.eye(3))) == pytest.approx(0, abs=1e-12)


def test_deviations_are_those_of_a_loop_over_images_and_layers():
    given = setting(channels=3)
    teacher, images = given.teacher, torch.rand(5, 3, 16, 16)
    norms = batch_norms(teacher)
    for norm in norms:
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
    found = torch.cat(list(deviations(teacher, images.split(2))))
    entered = {}
    hooks = [norm.register_forward_pre_hook(lambda m, x: entered.__setitem__(m, x[0])) for norm in norms]
    channels = sum(norm.num_features for norm in norms)
    w = torch.tensor([0.1, 0.2, 0.3, 0.3, 0.1])
    sums, squares = dict.fromkeys(norms, 0.0), dict.fromkeys(norms, 0.0)
    for share, image in zip(w, images, strict=True):
        teacher(image[None])
        for norm in norms:
            sums[norm] = sums[norm] + share * entered[norm][0].mean((1, 2))
            squares[norm] = squares[norm] + share * (entered[norm][0] ** 2).mean((1, 2))
    for hook in hooks:
        hook.remove()
    total = 0.0
    for norm in norms:
        m, v = norm.running_mean, norm.running_var
        total += ((sums[norm] - m) ** 2 / v).sum() + (((squares[norm] - v - m**2) / (v + m**2)) ** 2).sum()
    assert isinstance(norms[0], nn.BatchNorm2d)
    assert found.shape == (5, 2 * channels)
    assert of.mismatch(w, found) == pytest.approx(float(total) / channels, rel=1e-4)


def test_a_pool_too_large_to_keep_the_teachers_logits_has_the_same_weights():
    given = setting()
    known = given.data["pool"]
    bare = replace(known, columns={name: column for name, column in known.columns.items() if name != LOGITS})
    kept, asked = (curate._weights("t", given.kind, given.teacher, pool) for pool in (known, bare))
    torch.testing.assert_close(asked[0], kept[0])
    assert kept[0].std() > 0
