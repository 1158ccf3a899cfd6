"""Shares in percent."""

from torch import Tensor


def percent(right: Tensor) -> float:
    """100 times the share of true entries."""
    return 100 * right.double().mean().item()


def recalls(predicted: Tensor, labels: Tensor, classes: int) -> list[float | None]:
    """The percentage of each class's examples that are `predicted` (n,) as it; None for a class without one."""
    of_class = [labels == k for k in range(classes)]
    return [percent(predicted[mine] == k) if mine.any() else None for k, mine in enumerate(of_class)]
