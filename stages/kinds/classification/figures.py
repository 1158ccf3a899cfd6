"""The figures that only classification has."""

import math
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from torch import Tensor

from stages.curation.scores import standing_out
from stages.datasets.examples import LABEL, PREDICTED, Examples
from stages.engine.teacher import ASKED, Teacher
from stages.kinds import answered
from stages.reporting.figures.panels import CLASSES, first_samples, mosaic, read_predictions, save, show
from stages.reporting.figures.pool import extremes
from stages.settings.paths import Places
from stages.support.seeds import shuffled

NUMBERED = 12  # classes up to which a confusion has numbers

__all__ = ["extremes", "predictions", "samples"]


def samples(places: Places, kind: Any, teacher: Teacher, students: pd.DataFrame) -> None:
    """OOD pool, synthetic images of each method's first seed, in-domain images: one column a class that the teacher sees."""
    pool = Examples.load(places.pool / "pool.safetensors")
    shown = [("OOD pool", *seen_as(kind, teacher, pool))]
    shown += first_samples(places, students)
    shown.append((kind.held, *seen_as(kind, teacher, Examples.load(places.split("val")))))
    classes = min(len(kind.classes), CLASSES)
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 2.4 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, images, predicted) in zip(axes.flat, shown, strict=False):
        show(ax, mosaic(images, predicted, classes), title, kind.classes[:classes])
    figure.suptitle(f"{places.task}: columns are classes as the teacher sees them", fontsize=10)
    save(figure, places, "samples")


def seen_as(kind: Any, teacher: Teacher, examples: Examples) -> tuple[Tensor, Tensor]:
    """Up to 2,000 inputs, drawn at random, for sets may be sorted by class; and the class (n,) that the teacher sees in each.

    Of a teacher that cannot be asked, what curation knows, or the label.
    """
    examples = examples.subset(shuffled(len(examples))[:2000])
    if ASKED not in teacher.can and (known := [name for name in (PREDICTED, LABEL) if name in examples.columns]):
        return examples.all_inputs(), examples.columns[known[0]]
    examples = answered(kind, teacher, examples)
    return examples.all_inputs(), standing_out(kind.summary(kind.answers(teacher, examples))["shares"])


def predictions(places: Places, kind: Any, runs: pd.DataFrame, title: str, file: str, suffix: str) -> None:
    """Predicted against actual class on the test split, or the teacher's, in percent of that class, over all seeds."""
    groups = {str(label): list(seeds) for label, seeds in runs.groupby("method", sort=False)["seed"]}
    columns = min(4, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3 * columns, 3 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for place, (ax, (label, seeds)) in enumerate(zip(axes.flat, groups.items(), strict=False)):
        files = [places.scores(label, seed) / f"{file}.csv" for seed in seeds]
        frame = pd.concat([read_predictions(file) for file in files], ignore_index=True)
        by = frame.columns[0]
        order = [name for name in kind.classes if name in set(frame[by])]
        table = pd.crosstab(frame[by], frame["predicted"], normalize="index").reindex(index=order, columns=order, fill_value=0)
        few, first, last = len(order) <= 20, place % columns == 0, place + columns >= len(groups)  # names stand at the edges
        ticks = {"xticklabels": few and last, "yticklabels": few and first}
        numbers = (100 * table).map(lambda share: f"{share:.0f}" if share >= 0.5 else "") if len(order) <= NUMBERED else None
        told = {"annot": numbers, "fmt": "", "annot_kws": {"fontsize": 5}}
        sns.heatmap(100 * table, vmin=0, vmax=100, cmap="rocket_r", cbar=False, square=True, ax=ax, **ticks, **told)
        ax.axis("on")
        ax.tick_params(axis="x", rotation=90 if max(map(len, order)) > 2 else 0)
        ax.set_title(label, fontsize=10)
        ax.set(xlabel="predicted" if last else "", ylabel=by if first else "")
    figure.colorbar(axes.flat[0].collections[0], ax=axes, shrink=0.6, label="% of the class")
    figure.suptitle(f"{title}: confusion on {kind.tested}")
    save(figure, places, f"confusion{suffix}")
