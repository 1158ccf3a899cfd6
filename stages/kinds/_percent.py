"""Formatting of shares in percent."""

from torch import Tensor


def percent(right: Tensor) -> float:
    """100 times the share of true entries."""
    return 100 * right.double().mean().item()
