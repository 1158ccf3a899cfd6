"""How images with label maps are split, and which of them are the same."""

from dataclasses import replace

import torch

from stages.datasets.examples import LABEL, UNKNOWN, Examples
from stages.kinds._images import packer, twins
from stages.support.errors import UserError
from stages.support.plugins import nearest

__all__ = ["check", "held_out", "of", "packer", "twins"]


def of(examples: Examples, classes: tuple[str, ...]) -> Examples:
    """The examples with their classes in that order; pixels of others are not labelled. Raises UserError for an unknown one."""
    if missing := [name for name in classes if name not in examples.classes]:
        raise UserError(f"there is no class '{missing[0]}' in the masks; {nearest(missing[0], examples.classes)}")
    numbers = torch.full((len(examples.classes) + 1,), UNKNOWN)  # the last is that of UNKNOWN, -1
    numbers[[examples.classes.index(name) for name in classes]] = torch.arange(len(classes))
    return replace(examples.having(label=numbers[examples.label]), classes=classes)


def check(examples: Examples, where: str, least: int = 3) -> None:
    """Raise UserError, with `where` in it, for labels that no teacher can be trained and scored with; for too few, `least`."""
    if LABEL not in examples.columns or examples.label.dim() != 3:
        raise UserError(f"{where}: segmentation needs a label for every pixel; take a source of masks ({{source: masks, ...}})")
    if len(examples.classes) < 2 or (examples.label == UNKNOWN).all():
        raise UserError(f"{where}: needs two classes or more, and pixels that are labelled")
    if len(examples) < least:
        raise UserError(f"{where}: has {len(examples)} images; train, val and test need one each, so at least 3")


def held_out(examples: Examples, part: float, leave: int = 1) -> tuple[Examples, Examples]:
    """Split off about `part` of the images, the last ones; returns (rest, part).

    Neighbours in a source are often frames of one video, nearly the same: they lie in one split.
    """
    n = len(examples)
    rows = torch.arange(n).split([n - (count := max(1, min(round(part * n), n - leave))), count])
    return examples.subset(rows[0]), examples.subset(rows[1])
