"""Intersection over union of predicted and true pixels, by class."""

import torch
from torch import Tensor

from stages.datasets.examples import UNKNOWN


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How many pixels of each class (rows) are predicted as each (columns), (K, K); those labelled UNKNOWN are left out."""
    counted = labels != UNKNOWN
    return torch.bincount(classes * labels[counted] + predicted[counted], minlength=classes**2).view(classes, classes)


def overlaps(table: Tensor) -> Tensor:
    """IoU of each class in percent, (K,): of the pixels that are of it or predicted as it, those that are both; NaN for none."""
    both = table.diagonal().double()
    return 100 * both / (table.sum(0) + table.sum(1) - both)


def mean_overlap(table: Tensor) -> float:
    """Mean IoU in percent, over the classes that are there or are predicted."""
    return overlaps(table).nanmean().item()
