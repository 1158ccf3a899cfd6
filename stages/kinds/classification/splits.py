"""How labelled images are split, and which of them are the same."""

import torch

from stages.datasets.examples import LABEL, UNKNOWN, Examples
from stages.kinds._images import packer, twins
from stages.support.errors import UserError
from stages.support.seeds import mix

SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}  # no names of classes

__all__ = ["check", "held_out", "of", "packer", "twins"]


def of(examples: Examples, classes: tuple[str, ...]) -> Examples:
    """Those of these classes, numbered in that order; raises UserError for one that there is not."""
    return examples.of(classes)


def check(examples: Examples, where: str, least: int = 3) -> None:
    """Raise UserError, with `where` in it, for labels that no teacher can be trained and scored with; for too few, `least`."""
    if len(examples.classes) < 2 or LABEL not in examples.columns or (examples.label == UNKNOWN).any():
        found = ", ".join(examples.classes[:5]) or "none"
        raise UserError(
            f"{where}: needs labelled examples of two classes or more; of a folder, one sub-folder a class (it has {found})"
        )
    if {name.lower() for name in examples.classes} <= SPLITS:
        raise UserError(
            f"{where}: its classes are {', '.join(examples.classes)}, which are parts of a set; say `train: train` and "
            "`test: test` beside `path`"
        )
    counts = torch.bincount(examples.label, minlength=len(examples.classes))
    if counts.min() < least:
        few = examples.classes[int(counts.argmin())]
        raise UserError(f"{where}: class '{few}' has {counts.min()} examples; train, val and test need one each, so at least 3")


def held_out(examples: Examples, part: float, leave: int = 1) -> tuple[Examples, Examples]:
    """Split off about `part` of each class, or of all without labels, always the same images; returns (rest, part).

    At least one image of each, and at most so many that `leave` of them stay.
    """
    generator = torch.Generator().manual_seed(mix(0))
    chosen = torch.zeros(len(examples), dtype=torch.bool)
    labels = examples.columns.get(LABEL, torch.zeros(len(examples)))
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        count = max(1, min(round(part * len(rows)), len(rows) - leave))
        chosen[rows[torch.randperm(len(rows), generator=generator)[:count]]] = True
    rest, taken = (mask.nonzero().flatten() for mask in (~chosen, chosen))
    return examples.subset(rest), examples.subset(taken)
