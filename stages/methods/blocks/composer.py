"""Images composed of tiles of the pool: what makes blind distillation strong."""

from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor

from stages.datasets.examples import INPUT, PREDICTED, WEIGHT, Examples
from stages.datasets.images import to_uint8
from stages.methods.bases.method import POOL, Method
from stages.methods.blocks.views import resized_crop
from stages.support.sections import Fraction, Section, Weight


class Mixing(Section):
    """How images are mixed: the shares `cutmix` and `mixup` are made of two tiles, the others of one.

    A tile shows at least the part `area` of an image; with 1 it is the image.
    Tiles are drawn by the weights of the pool (`curate.weights`); where it has none, in proportion to
    (images of the class that T sees, or that stands out)^-`balance`.
    """

    cutmix: Fraction = 0.5
    mixup: Fraction = 0.25
    balance: Weight = 0.5
    area: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _parts(self) -> "Mixing":
        if self.cutmix + self.mixup > 1:
            raise ValueError("`cutmix` and `mixup` are parts of the images; together they are 1 at most")
        return self


class Composer:
    """Composes `count` images at a time, over all ranks, for `method`, which sees the pool.

    A tile is an image, cropped and flipped as the schedule says, or a resized part of it. So "What Makes a Good Dataset for
    Knowledge Distillation?" (CVPR 2025) distils from images of anything: mixed by CutMix (Yun et al. 2019, arXiv:1905.04899) and
    mixup (Zhang et al. 2018, arXiv:1710.09412), every image in its own way. `weights` (n,) are the pool's.
    """

    def __init__(self, method: Method, name: str, count: int, mixing: Mixing):
        pool, self.mixing, self.count = method.setting.data[POOL], mixing, method.setting.runtime.share(count, "composed images")
        self.weights = tile_weights(pool, method.setting.classes, mixing.balance)
        self.tiles = method.stream(name, pool, 2 * count, method.schedule.of_pool, self.weights)

    def next(self) -> Tensor:
        """This rank's part of the next images, uint8: what T sees is then exactly what S sees, however often."""
        tiles = self.tiles.next()[INPUT]
        if self.mixing.area < 1:
            tiles = resized_crop(tiles, (self.mixing.area, 1.0))
        first, second = tiles.chunk(2)
        share = shares(len(first), first.shape[2], first.shape[3], self.mixing.cutmix, self.mixing.mixup).to(first)
        return to_uint8((first * share + second * (1 - share)).clamp(0, 1))


def shares(n: int, height: int, width: int, cutmix: float, mixup: float) -> Tensor:
    """The first tile's share of every pixel, (n, 1, height, width) in [0, 1]; drawn for each image from the CPU's generator.

    With probability `cutmix`, 0 in a box with a uniform centre and the sides' share sqrt(1 - r), r ~ U(0, 1), and 1 around it;
    with probability `mixup`, r everywhere; else 1.
    """
    choice, r, down, across = torch.rand(4, n, 1, 1, 1)
    inside = (1 - r).sqrt() / 2
    rows, columns = ((torch.arange(side) + 0.5) / side for side in (height, width))
    box = ((rows.view(-1, 1) - down).abs() < inside) & ((columns - across).abs() < inside)
    mixed = torch.where(choice < cutmix + mixup, r, torch.ones_like(r))
    return torch.where(choice < cutmix, (~box).to(r.dtype), mixed.expand(n, 1, height, width))


def tile_weights(pool: Examples, classes: int, balance: float) -> Tensor:
    """How often each image of the pool is drawn, (n,) up to a factor; in fp64, whose sums over millions of images are even."""
    given = pool.columns.get(WEIGHT)
    return (evenly(pool.columns[PREDICTED], classes, balance) if given is None else given).double()


def evenly(predicted: Tensor, classes: int, balance: float) -> Tensor:
    """(n,): the number of images of a class to the power of -`balance`, of each image's class `predicted` (n,)."""
    counts = torch.bincount(predicted, minlength=classes)
    return counts[predicted].to(torch.get_default_dtype()) ** -balance
