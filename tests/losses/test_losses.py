import math

import pytest
import torch

from stages.losses import distillation, synthesis


def naive_kl(t, s, tau=1.0):
    total = 0.0
    for row_t, row_s in zip(t.double(), s.double(), strict=True):
        p, q = (row_t / tau).softmax(0), (row_s / tau).softmax(0)
        total += sum(float(a) * (math.log(float(a)) - math.log(float(b))) for a, b in zip(p, q, strict=True))
    return tau**2 * total / len(t)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(2, 6, 5, generator=generator)


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_kl_is_the_sum_over_classes_averaged_over_samples(logits, tau):
    t, s = logits
    assert distillation.kl_divergence(t, s, tau).item() == pytest.approx(naive_kl(t, s, tau), rel=1e-5)
    assert distillation.kl_divergence(t, s).item() == pytest.approx(
        torch.nn.functional.kl_div(s.log_softmax(1), t.softmax(1), reduction="batchmean").item(), rel=1e-5
    )


def test_kl_sends_gradient_into_both_networks(logits):
    t, s = logits.clone().requires_grad_()
    distillation.kl_divergence(t, s).backward()
    t, s = logits[0].clone().requires_grad_(), logits[1].clone().requires_grad_()
    distillation.kl_divergence(t, s).backward()
    assert t.grad.abs().sum() > 0
    assert s.grad.abs().sum() > 0


def test_entropy_is_that_of_the_softmax_and_survives_underflow(logits):
    p = logits[0].double().softmax(1)
    torch.testing.assert_close(distillation.entropy(logits[0]).double(), -(p * p.log()).sum(1), rtol=1e-5, atol=1e-6)
    assert distillation.entropy(torch.tensor([[1e4, 0.0, -1e4]])).item() == 0.0


def test_balance_is_in_bits_and_survives_an_empty_class(logits):
    mean = logits[0].double().softmax(1).mean(0)
    assert distillation.balance(logits[0]).item() == pytest.approx((mean * mean.log2()).sum().item(), rel=1e-5)
    even = 1000 * torch.eye(8)
    assert distillation.balance(even).item() == pytest.approx(-3.0)  # -log2 8, the minimum
    assert distillation.balance(torch.tensor([[1e5, 0.0]] * 3)).item() == 0.0


def test_patch_losses_are_the_papers_sums_for_8x8_maps_and_at_chance_44_4():
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 4, 1, 8, 8, generator=generator)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    total = bce(fake, torch.zeros_like(fake), reduction="sum") + bce(real, torch.ones_like(real), reduction="sum")
    assert synthesis.patch_discrimination(real, fake).item() == pytest.approx(total.item() / (2 * 4), rel=1e-5)
    assert synthesis.patch_realism(fake).item() == pytest.approx(
        bce(fake, torch.ones_like(fake), reduction="sum").item() / 4, rel=1e-5
    )
    undecided = torch.zeros(4, 1, 3, 3)
    assert synthesis.patch_discrimination(undecided, undecided).item() == pytest.approx(64 * math.log(2))
    assert synthesis.patch_realism(undecided).item() == pytest.approx(64 * math.log(2))
