"""Mosaics of two tiles, against what a loop over images and pixels makes of the same draws; and how often tiles are drawn."""

import math

import pytest
import torch
from pydantic import ValidationError

from stages.datasets.examples import pack
from stages.methods.blocks.composer import Composer, Mixing, evenly, shares, tile_weights
from stages.methods.blocks.views import resized_crop
from tests.small import method


def naive_share(choice, r, down, across, height, width, cutmix, mixup):
    share = [[1.0] * width for _ in range(height)]
    for i in range(height):
        for j in range(width):
            if choice < cutmix:
                half = math.sqrt(1 - r) / 2
                inside = abs((i + 0.5) / height - down) < half and abs((j + 0.5) / width - across) < half
                share[i][j] = 0.0 if inside else 1.0
            elif choice < cutmix + mixup:
                share[i][j] = r
    return share


def test_shares_are_those_of_a_loop_over_images_and_pixels():
    torch.manual_seed(0)
    drawn = torch.rand(4, 40, 1, 1, 1).flatten(1).T.tolist()
    torch.manual_seed(0)
    found = shares(40, 6, 10, 0.5, 0.25)
    expected = torch.tensor([naive_share(*draws, 6, 10, 0.5, 0.25) for draws in drawn])
    torch.testing.assert_close(found[:, 0], expected)
    assert {tuple(image.unique().tolist()) for image in found if image.unique().numel() == 2} == {(0.0, 1.0)}


def test_half_of_the_images_have_a_box_and_a_quarter_is_a_mean():
    torch.manual_seed(0)
    found = shares(4000, 8, 8, 0.5, 0.25).flatten(1)
    even = found.amin(1) == found.amax(1)
    mean = even & (found[:, 0] > 0) & (found[:, 0] < 1)
    assert mean.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (~even).float().mean().item() == pytest.approx(0.5, abs=0.05)  # a box can be empty, or cover all
    boxes = 1 - found[~even].mean(1)
    # E[1 - r] is 1/2 of an image for a box that lies inside; clipped at the border it loses some of it.
    assert 0.2 < boxes.mean() < 0.45


def composer(mixing, pool=None):
    given = method("kd_ood_strong", channels=3)
    if pool is not None:
        given.setting.data["pool"] = pool
    return Composer(given, "again", 8, mixing)


def test_without_mixing_an_image_is_one_tile():
    maker = composer(Mixing(cutmix=0.0, mixup=0.0, area=0.35))
    torch.manual_seed(5)
    made = maker.next()
    maker.tiles.seek(0)
    torch.manual_seed(5)
    tiles = resized_crop(maker.tiles.next()["input"], (0.35, 1.0))
    assert made.dtype == torch.uint8
    torch.testing.assert_close(made.float() / 255, tiles[:8], atol=0.5 / 255 + 1e-6, rtol=0)


def test_a_mosaic_lies_between_its_two_tiles():
    maker = composer(Mixing(cutmix=0.5, mixup=0.5))
    torch.manual_seed(5)
    made = maker.next().float() / 255
    maker.tiles.seek(0)
    torch.manual_seed(5)
    first, second = maker.tiles.next()["input"].chunk(2)
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    assert ((made >= low - 0.003) & (made <= high + 0.003)).all()
    assert (made - first).abs().amax() > 0.1


def test_the_stream_draws_images_as_often_as_their_weights_say():
    pixels = torch.arange(10, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 16, 16).repeat(4, 1, 1, 1)
    weights = torch.tensor([0.0, 1, 2, 3, 4, 0, 0, 0, 0, 0]).repeat(4)
    pool = pack(pixels.contiguous()).having(weight=weights)
    maker = composer(Mixing(cutmix=0.0, mixup=0.0, balance=3.0), pool)
    seen = torch.cat([maker.next()[:, 0, 0, 0] for _ in range(500)]).long()
    shares_of = torch.bincount(seen, minlength=10) / len(seen)
    torch.testing.assert_close(shares_of, torch.tensor([0, 0.1, 0.2, 0.3, 0.4, 0, 0, 0, 0, 0]), atol=0.03, rtol=0)


def test_weighted_batches_depend_on_their_number_only():
    one, other = (composer(Mixing()) for _ in range(2))
    ahead = [one.tiles.next()["rows"] for _ in range(20)]
    other.tiles.seek(17)
    assert torch.equal(other.tiles.next()["rows"], ahead[17])


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.9), (0.5, 3 / 4), (1.0, 0.5)])
def test_balance_evens_the_classes(balance, share):
    predicted = torch.tensor([0] * 90 + [1] * 10)
    weights = evenly(predicted, 3, balance)
    assert (weights[:90].sum() / weights.sum()).item() == pytest.approx(share)
    pool = pack(torch.zeros(100, 1, 16, 16, dtype=torch.uint8)).having(predicted=predicted)
    torch.testing.assert_close(tile_weights(pool, 3, balance), weights.double())


def test_the_teacher_sees_exactly_what_the_student_sees():
    strong, seen = method("kd_ood_strong", channels=3), {}
    for name, net in (("teacher", strong.teacher), ("student", strong.student.net)):
        net.register_forward_pre_hook(lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0]))
    strong.step()
    assert torch.equal(torch.cat(seen["teacher"]), torch.cat(seen["student"]))
    assert len(torch.cat(seen["student"])) == 16
    assert torch.equal((torch.cat(seen["student"]) * 255).round() / 255, torch.cat(seen["student"]))


def test_a_pool_smaller_than_a_batch_of_tiles_is_drawn_from_again():
    pool = pack(torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8)).having(predicted=torch.arange(5))
    assert composer(Mixing(), pool).next().shape == (8, 3, 16, 16)


def test_crops_do_not_depend_on_the_precision_of_forwards():
    images = torch.rand(4, 3, 64, 64)
    torch.manual_seed(0)
    plain = resized_crop(images, flip=True)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resized_crop(images, flip=True), plain)


def test_parts_are_no_more_than_all():
    with pytest.raises(ValidationError, match="together they are 1 at most"):
        Mixing(cutmix=0.7, mixup=0.4)
