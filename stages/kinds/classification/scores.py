"""How well a classifier does and how close it is to its teacher."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.datasets.examples import LABEL, Examples
from stages.kinds._percent import percent, recalls, reference
from stages.losses.distillation import kl_divergence
from stages.support.files import replacing

BINS = 15
COLUMNS = {
    "top1": ("top-1 %", 2),
    "top3": ("top-3 %", 2),
    "top5": ("top-5 %", 2),
    "agree_inverted": ("agree, inverted %", 2),
    "agree_pool": ("agree, pool %", 2),
    "kl_pool": ("KL(T‖S), pool", 3),
    "agree": ("agree %", 2),
    "kl": ("KL(T‖S)", 3),
    "nll": ("NLL", 3),
    "ece": ("ECE %", 2),
}
NOTE = "top-1: accuracy on the test split after the last step. agree and KL(T‖S): against the teacher."


def scores(logits: Tensor, teacher: Tensor | None, examples: Examples) -> dict[str, Any]:
    """Metrics of `logits` (n, K) against the labels (n,) and the teacher's logits (n, K), each where these are known.

    top1, top3 and top5 (where K is above twice as many), ece and agree (same arg-max as the teacher) in percent; nll and kl
    (mean KL(T || S)) in nats; per_class: percent of each class's images that are predicted as it.
    """
    by = {} if teacher is None else by_teacher(logits, teacher)
    if LABEL not in examples.columns:
        return by
    labels, top1 = examples.label, logits.argmax(1)
    result = {"top1": percent(top1 == labels)}
    for k in (3, 5):
        if logits.shape[1] > 2 * k:
            result[f"top{k}"] = percent((logits.topk(k).indices == labels[:, None]).any(1))
    return result | {
        "nll": F.cross_entropy(logits, labels).item(),
        "ece": expected_calibration_error(logits, labels),
        **by,
        "per_class": dict(zip(examples.classes, recalls(top1, labels, len(examples.classes)), strict=True)),
    }


def by_teacher(logits: Tensor, teacher: Tensor) -> dict[str, float]:
    """agree and kl, of logits (n, K) and the teacher's."""
    return {"agree": percent(logits.argmax(1) == teacher.argmax(1)), "kl": kl_divergence(teacher, logits).item()}


def write_predictions(path: Path, logits: Tensor, examples: Examples, classes: tuple[str, ...], teacher: Tensor | None) -> None:
    """PATH.csv, for `read_predictions`: what the network said of each example, actual and predicted class, confidence.

    Without labels the `teacher`'s class stands in place of the actual one.
    """
    confidence, predicted = logits.softmax(1).max(1)
    title, judge = reference(examples, teacher)
    names = [[classes[k] for k in column.tolist()] for column in (judge, predicted)]
    with replacing(path.with_suffix(".csv")) as temporary:
        pd.DataFrame({title: names[0], "predicted": names[1], "confidence": confidence.numpy()}).to_csv(
            temporary, index=False, float_format="%.4f"
        )


def expected_calibration_error(logits: Tensor, labels: Tensor) -> float:
    """ECE in percent: |accuracy - confidence| over 15 equal bins of confidence, weighted by their size (Guo et al. 2017)."""
    confidence, predicted = logits.double().softmax(1).max(1)
    right = (predicted == labels).double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gap = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, right - confidence)
    return 100 * (gap.abs().sum() / len(labels)).item()
