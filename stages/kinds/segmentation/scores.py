"""How well a network segments and how close it is to its teacher."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from stages.datasets.examples import LABEL, Examples
from stages.kinds._percent import percent, reference
from stages.kinds.segmentation._overlap import confusion, mean_overlap, overlaps
from stages.losses.distillation import kl_per_sample
from stages.support.files import replacing, save_tensors

SHOWN = 5  # images of the test split that are drawn, evenly apart
COLUMNS = {
    "miou": ("mIoU %", 2),
    "pixels": ("pixels %", 2),
    "agree_pool": ("agree, pool %", 2),
    "kl_pool": ("KL(T‖S), pool", 3),
    "agree": ("agree %", 2),
    "kl": ("KL(T‖S)", 3),
}
NOTE = (
    "mIoU: intersection over union, mean over classes, of one confusion matrix over the whole test split after the last step; "
    "pixels that are not labelled are left out. pixels: those that are right. agree and KL(T‖S): against the teacher, over all "
    "pixels."
)


def scores(logits: Tensor, teacher: Tensor, examples: Examples) -> dict[str, Any]:
    """Metrics of `logits` (n, K, H, W) against the labels (n, H, W), where there are any, and the teacher's logits.

    miou, pixels and agree (the same class predicted) in percent; kl, the mean over all pixels, in nats; per_class: IoU of each
    class in percent, None for a class that is not there.
    """
    predicted, classes = logits.argmax(1), len(examples.classes)
    kl = torch.stack([kl_per_sample(t, s).double().mean() for t, s in zip(teacher.split(1), logits.split(1), strict=True)]).mean()
    by = {"agree": percent(predicted == teacher.argmax(1)), "kl": kl.item()}
    if LABEL not in examples.columns:
        return by
    table = confusion(predicted, examples.label, classes)
    return {
        "miou": mean_overlap(table),
        "pixels": 100 * (table.diagonal().sum() / table.sum()).item(),
        **by,
        "per_class": {
            name: None if value != value else value
            for name, value in zip(examples.classes, overlaps(table).tolist(), strict=True)
        },
    }


def write_predictions(path: Path, logits: Tensor, examples: Examples, names: tuple[str, ...], teacher: Tensor | None) -> None:
    """PATH.csv, for `read_predictions`: pixels by actual and predicted class.

    PATH.safetensors: some images, their labels, and what is predicted. Without labels the `teacher`'s answers stand there.
    """
    predicted, (title, judge) = logits.argmax(1), reference(examples, teacher)
    table = confusion(predicted, judge, len(names))
    pairs = [(actual, other, int(table[i, j])) for i, actual in enumerate(names) for j, other in enumerate(names)]
    with replacing(path.with_suffix(".csv")) as temporary:
        pd.DataFrame(pairs, columns=[title, "predicted", "pixels"]).to_csv(temporary, index=False)
    rows = torch.linspace(0, len(examples) - 1, min(len(examples), SHOWN)).round().long()
    drawn = {"images": examples.subset(rows).all_inputs(), "labels": judge[rows], "predicted": predicted[rows]}
    save_tensors(path.with_suffix(".safetensors"), drawn)
