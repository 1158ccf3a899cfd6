"""Figures of the OOD pool: what the teacher says of the images, and which were kept."""

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from torch import Tensor

from stages.datasets.examples import Examples
from stages.reporting.figures.panels import CLASSES, mosaic, save, show
from stages.settings.paths import Places
from stages.support.files import read_json, read_tensors

UNITS = {
    "entropy": "entropy, nats",
    "confidence": "confidence",
    "outlier": "distance to the class's prototypes",
    "density": "density of the class",
    "total": "ODSD's score",
    "impression": "distance from the training set's impression",
}


def _load(places: Places) -> tuple[dict[str, Tensor], np.ndarray]:
    """The scores of all OOD images, and whether each was kept."""
    tensors = read_tensors(places.pool / "scores.safetensors")[0]
    kept = np.zeros(len(tensors["entropy"]), dtype=bool)
    kept[tensors["rows"].numpy()] = True
    return tensors, kept


def scores(places: Places) -> None:
    """Histogram of every score over the OOD images, those kept in the pool beside the rest."""
    tensors, kept = _load(places)
    known = [name for name in UNITS if name in tensors]
    columns = min(3, len(known))
    rows = math.ceil(len(known) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 2.8 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, name in zip(axes.flat, known, strict=False):
        ax.axis("on")
        frame = pd.DataFrame({name: tensors[name].numpy(), "of": np.where(kept, "kept", "left out")})
        sns.histplot(frame, x=name, hue="of", hue_order=["kept", "left out"], multiple="stack", bins=40, ax=ax)
        ax.get_legend().set_title(None)
        ax.set(xlabel=UNITS[name], ylabel="OOD examples")
    figure.suptitle(f"{places.task}: what the teacher says of the OOD examples; {kept.sum()} of {len(kept)} kept", fontsize=11)
    save(figure, places, "pool-scores")


def classes(places: Places, kind: Any) -> None:
    """How often the teacher sees each class among all OOD images, and in the pool."""
    facts = read_json(places.pool / "summary.json")
    names = kind.classes
    shares = {
        f"{label} ({facts[f'effective_classes_{when}']:.1f} effective classes)": np.array(facts[f"histogram_{when}"])
        for when, label in (("before", "all OOD examples"), ("after", "pool"))
    }
    frame = pd.concat(
        [pd.DataFrame({"class": names, "share": 100 * n / n.sum(), "images": label}) for label, n in shares.items()],
        ignore_index=True,
    )
    figure, ax = plt.subplots(figsize=(max(5, 0.45 * len(names)), 3.2))
    sns.barplot(frame, x="class", y="share", hue="images", ax=ax)
    ax.axhline(100 / len(names), color="grey", linestyle="--")
    ax.set(xlabel="class that the teacher sees", ylabel="share, %")
    ax.set_title(f"{places.task}: classes before and after curation", pad=24)
    ax.tick_params(axis="x", rotation=0 if len(names) <= 12 else 90)
    ax.legend(title=None, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=2, frameon=False)
    save(figure, places, "pool-classes")


def extremes(places: Places, kind: Any) -> None:
    """The best and the worst images of each class by ODSD's score, or else by the teacher's confidence."""
    if places.shards.exists():  # which are not here
        return
    names, (order, predicted, unit) = kind.classes[:CLASSES], ranked(places)
    ood = Examples.load(places.split("ood"))
    if (asked := _load(places)[0].get("asked")) is not None:  # rows that a teacher was asked about, once
        ood = ood.subset(asked)
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 2.8), layout="constrained")
    for ax, rows, title in zip(axes, (order, order.flip(0)), ("best", "worst"), strict=True):
        first = _first_of_each(predicted[rows], len(names))
        chosen = ood.subset(rows[first])
        show(ax, mosaic(chosen.all_inputs(), predicted[rows[first]], len(names)), f"{title} by {unit}", names)
    figure.suptitle(f"{places.task}: OOD images; columns are classes as the teacher sees them", fontsize=10)
    save(figure, places, "pool-extremes")


def ranked(places: Places) -> tuple[Tensor, Tensor, str]:
    """The OOD examples from best to worst, by ODSD's score or else by the teacher's confidence: rows, predictions, the unit."""
    tensors, _ = _load(places)
    by = "total" if "total" in tensors else "confidence"
    return tensors[by].argsort(descending=True, stable=True), tensors["predicted"], UNITS[by]


def _first_of_each(predicted: Tensor, count: int) -> Tensor:
    """Places of the first few images of each class."""
    return torch.cat([(predicted == k).nonzero().flatten()[:8] for k in range(count)])
