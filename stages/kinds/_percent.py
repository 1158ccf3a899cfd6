"""Shares in percent, and what they are shares of."""

from torch import Tensor

from stages.datasets.examples import LABEL, Examples


def reference(examples: Examples, teacher: Tensor | None) -> tuple[str, Tensor]:
    """By what predictions are judged, in a word, and the classes that it says: labels, or else the teacher's answers."""
    if LABEL in examples.columns:
        return "actual", examples.label
    assert teacher is not None
    return "teacher", teacher.argmax(1)


def percent(right: Tensor) -> float:
    """100 times the share of true entries."""
    return 100 * right.double().mean().item()


def recalls(predicted: Tensor, labels: Tensor, classes: int) -> list[float | None]:
    """The percentage of each class's examples that are `predicted` (n,) as it; None for a class without one."""
    of_class = [labels == k for k in range(classes)]
    return [percent(predicted[mine] == k) if mine.any() else None for k, mine in enumerate(of_class)]
