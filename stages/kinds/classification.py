"""Classification: logits (n, K), labels (n,); how well a student does and how close it is to its teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.datasets import ImageSet
from stages.engine.players import judged
from stages.engine.runtime import Runtime
from stages.losses import kl_divergence
from stages.models import logits_of

BINS = 15


def scores(logits: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, float]:
    """Metrics of `logits` (n, K) against `labels` (n,) and the teacher's logits (n, K).

    top1, top5 (where K > 10), ece and agree (same arg-max as the teacher) in percent; nll and kl (mean KL(T || S)) in nats.
    """
    top1 = logits.argmax(1)
    result = {"top1": percent(top1 == labels)}
    if logits.shape[1] > 10:
        result["top5"] = percent((logits.topk(5).indices == labels[:, None]).any(1))
    return result | {
        "nll": F.cross_entropy(logits, labels).item(),
        "ece": expected_calibration_error(logits, labels),
        "agree": percent(top1 == teacher.argmax(1)),
        "kl": kl_divergence(teacher, logits).item(),
    }


def expected_calibration_error(logits: Tensor, labels: Tensor) -> float:
    """ECE in percent: |accuracy - confidence| over 15 equal bins of confidence, weighted by their size (Guo et al. 2017)."""
    confidence, predicted = logits.double().softmax(1).max(1)
    right = (predicted == labels).double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gap = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, right - confidence)
    return 100 * (gap.abs().sum() / len(labels)).item()


def per_class_accuracy(predicted: Tensor, labels: Tensor, classes: int) -> list[float | None]:
    """Percent of each class's images that are predicted as it; None for a class without images."""
    return [percent(predicted[mine] == k) if (mine := labels == k).any() else None for k in range(classes)]


def percent(right: Tensor) -> float:
    """100 times the share of true entries."""
    return 100 * right.double().mean().item()


class Probe:
    """Measures a network in training on the validation split, for learning curves; nothing is chosen by it."""

    def __init__(self, net: nn.Module, val: ImageSet, runtime: Runtime, teacher: nn.Module | None = None):
        self.net, self.val, self.runtime = net, val, runtime
        self.teacher_top1 = None if teacher is None else self._predict(teacher)

    def __call__(self) -> dict[str, float]:
        """val_top1 and, where there is a teacher, val_agree, in percent."""
        predicted = self._predict(self.net)
        result = {"val_top1": percent(predicted == self.val.labels)}
        return result if self.teacher_top1 is None else result | {"val_agree": percent(predicted == self.teacher_top1)}

    def _predict(self, net: nn.Module) -> Tensor:
        with judged(net), self.runtime.autocast():
            return logits_of(net, self.val.all_batches(512)).argmax(1)
