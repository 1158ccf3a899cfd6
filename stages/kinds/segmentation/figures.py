"""Figures of segmentation: what networks see in the same images, each class's IoU, what the teacher sees in synthetic ones."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.patches import Patch
from torch import Tensor

from stages.datasets.examples import Examples, pack
from stages.engine.teacher import Teacher
from stages.kinds.segmentation._overlap import overlaps
from stages.reporting.figures.panels import first_samples, read_predictions, save
from stages.reporting.figures.pool import extremes
from stages.settings.params import TEACHER
from stages.settings.paths import Places
from stages.settings.task import LABELLED
from stages.support.files import read_tensors

__all__ = ["extremes", "predictions", "samples"]

COLUMNS = 8  # of synthetic images


def palette(classes: int) -> np.ndarray:
    """A colour (3,) a class and, in the last row, black for pixels that are not labelled; uint8."""
    colours = [(0.25, 0.25, 0.25), *sns.color_palette("husl", classes - 1), (0, 0, 0)]
    return (255 * np.array(colours)).round().astype(np.uint8)


def samples(places: Places, kind: Any, teacher: Teacher, students: pd.DataFrame) -> None:
    """Images of the pool, of each method's first seed, and of the domain, each above what the teacher sees in it."""
    pool, val = Examples.load(places.pool / "pool.safetensors"), Examples.load(places.split("val"))
    shown = [
        ("OOD pool", _some(pool)),
        *((row, images) for row, images, _ in first_samples(places, students)),
        (kind.held, _some(val)),
    ]
    colours = palette(len(kind.classes))
    figure, axes = plt.subplots(
        len(shown), 1, figsize=(1.1 * COLUMNS, 2.3 * len(shown) + 0.6), squeeze=False, layout="constrained"
    )
    for ax, (title, images) in zip(axes.flat, shown, strict=True):
        seen = colours[kind.answers(teacher, pack(images[:COLUMNS])).argmax(1).numpy()]
        ax.imshow(np.concatenate([_row(_coloured(images[:COLUMNS])), _row(seen)]), interpolation="nearest")
        ax.set_title(title, fontsize=10)
        ax.axis("off")
    _legend(figure, kind.classes, colours)
    figure.suptitle(f"{places.task}: images, and what the teacher sees in them", fontsize=11)
    save(figure, places, "samples")


def predictions(places: Places, kind: Any, runs: pd.DataFrame, title: str, file: str, suffix: str) -> None:
    """Some test images with the truth, and what the teacher and each method's first student see; and each class's IoU."""
    first = runs.drop_duplicates("method")[["method", "seed"]].itertuples(index=False)
    answers = {row: read_tensors(places.scores(row, seed) / f"{file}.safetensors")[0] for row, seed in first}
    chosen, colours = answers[TEACHER], palette(len(kind.classes))
    panels = {"image": _coloured(chosen["images"])}
    if kind.measured == LABELLED:
        panels["truth"] = colours[chosen["labels"].numpy()]  # UNKNOWN, -1, is the last colour
    panels |= {row: colours[found["predicted"].numpy()] for row, found in answers.items()}
    rows = len(chosen["images"])
    figure, axes = plt.subplots(
        rows, len(panels), figsize=(1.7 * len(panels), 1.4 * rows + 0.8), squeeze=False, layout="constrained"
    )
    for column, (label, maps) in enumerate(panels.items()):
        axes[0, column].set_title(label, fontsize=9)
        for ax, picture in zip(axes[:, column], maps, strict=True):
            ax.imshow(picture, interpolation="nearest")
            ax.axis("off")
    _legend(figure, (*kind.classes, "not labelled"), colours)
    figure.suptitle(f"{title}: the same images of {kind.tested}", fontsize=11)
    save(figure, places, f"segmented{suffix}")
    _classes(places, kind, runs, title, file, suffix)


def _classes(places: Places, kind: Any, runs: pd.DataFrame, title: str, file: str, suffix: str) -> None:
    """IoU of each class on the test split with the labels, or the teacher's answers, by row: mean and range over seeds."""
    found = []
    for row, seed in runs[["method", "seed"]].itertuples(index=False):
        frame = read_predictions(places.scores(row, seed) / f"{file}.csv")
        names = list(dict.fromkeys(frame[by := frame.columns[0]]))
        table = torch.tensor(frame["pixels"].to_numpy()).view(len(names), len(names))
        found.append(pd.DataFrame({"class": names, "IoU, %": overlaps(table).numpy(), "row": row}))
    frame = pd.concat(found, ignore_index=True)
    rows, classes = frame["row"].nunique(), frame["class"].nunique()
    figure, ax = plt.subplots(figsize=(max(6, 0.12 * rows * classes + 1), 3.6))
    sns.barplot(frame, x="class", y="IoU, %", hue="row", errorbar=("pi", 100), err_kws={"linewidth": 1}, ax=ax)
    ax.set(ylim=(0, 100), xlabel=None, title=f"{title}: IoU of each {by} class on {kind.tested}")
    ax.tick_params(axis="x", rotation=0 if classes <= 11 and rows > 3 else 45)
    ax.legend(title=None, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    save(figure, places, f"classes{suffix}")


def _some(examples: Examples) -> Tensor:
    drawn = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))[:COLUMNS]
    return examples.subset(drawn).all_inputs()


def _coloured(images: Tensor) -> np.ndarray:
    """(n, C, H, W) -> (n, H, W, 3)."""
    return images.expand(-1, 3, -1, -1).movedim(1, -1).numpy()


def _row(images: np.ndarray) -> np.ndarray:
    """(n, H, W, 3) side by side, with white between."""
    return np.concatenate(np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255), 1)


def _legend(figure: plt.Figure, names: tuple[str, ...], colours: np.ndarray) -> None:
    patches = [Patch(color=colour / 255, label=name) for name, colour in zip(names, colours, strict=False)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 6), fontsize=8)
