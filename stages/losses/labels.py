"""What a network learns of labels."""

import torch.nn.functional as F
from torch import Tensor

from stages.losses.precision import full


def cross_entropy(logits: Tensor, labels: Tensor, ignored: int, focal: float = 0.0) -> Tensor:
    """Mean of -(1 - p)^focal ln p over labels (B, ...) that are not `ignored`, p being the label's share of softmax(logits).

    Logits are (B, K, ...). With `focal` 0 the cross-entropy, else the focal loss (Lin et al. 2017, arXiv:1708.02002). The mean is
    over what is labelled, where DFAD's code divides by all pixels.
    """
    if not focal:
        return F.cross_entropy(full(logits), labels, ignore_index=ignored)
    each = F.cross_entropy(full(logits), labels, ignore_index=ignored, reduction="none")
    return ((1 - (-each).exp()) ** focal * each).sum() / (labels != ignored).sum()
