"""What several figures need: panels of images, and saving."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from torch import Tensor
from torch.nn.functional import pad

from stages.datasets.examples import INPUT, PREDICTED
from stages.settings.params import method_names
from stages.settings.paths import Places
from stages.support.files import read_tensors, replacing

ROWS, CLASSES = 4, 10  # of a panel of images
ACROSS = 3  # panels of lines beside each other
# Methods with the ten colours that are told apart best.
USUAL = ("mosaickd", "kd_ood", "fast", "tessera", "kd_ood_strong", "supervised", "cmi", "kd_noise", "kd_in_domain", "dfad")


def mosaic(images: Tensor, labels: Tensor, classes: int) -> np.ndarray:
    """The ROWS first of uint8 images (n, C, S, S) of each class in a column, (H, W) or (H, W, 3); blank where too few."""
    columns = []
    for k in range(classes):
        mine = images[labels == k][:ROWS]
        blank = torch.full((ROWS - len(mine), *images.shape[1:]), 255, dtype=torch.uint8)
        columns.append(pad(torch.cat([mine, blank]), (1, 1, 1, 1), value=255))
    grid = torch.stack(columns, 1)  # ROWS, classes, C, S, S
    r, k, c, h, w = grid.shape
    return grid.permute(0, 3, 1, 4, 2).reshape(r * h, k * w, c).squeeze(2).numpy()


def show(ax: plt.Axes, image: np.ndarray, title: str, columns: Sequence[str] = ()) -> None:
    """One panel of images, with names over its `columns`."""
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    names = [name[:14] for name in columns]
    longest = max(map(len, names), default=0)
    turned = longest > 2
    for k, name in enumerate(names):
        place = (k + 0.5) * image.shape[1] / len(names)
        turn = {"rotation": 45, "ha": "left"} if turned else {"ha": "center"}
        ax.text(place, -1, name, fontsize=6, va="bottom", **turn)
    ax.set_title(title, fontsize=10, pad=12 + 4 * longest * turned)
    ax.axis("off")


def colours(rows: Iterable[str]) -> dict[str, Any]:
    """A colour for each row, the same in every figure: that of its method, lighter for its variants one after another."""
    methods = [*USUAL, *sorted(set(method_names()) - set(USUAL))]
    palette = [*sns.color_palette("colorblind"), *sns.color_palette("husl", len(methods))]
    found, seen = dict[str, Any](), Counter[str]()
    for row in dict.fromkeys(rows):
        method = max((name for name in methods if row == name or row.startswith(f"{name}_")), key=len, default=methods[-1])
        light = 1 - 0.75 ** seen[method]
        seen[method] += 1
        found[row] = tuple(part + (1 - part) * light for part in palette[methods.index(method)])
    return found


def first_samples(places: Places, students: pd.DataFrame) -> list[tuple[str, Tensor, Tensor]]:
    """Name, images and predicted classes (n,) of each method that makes images, for its first seed."""
    found = []
    for row, seed in students.drop_duplicates("method")[["method", "seed"]].itertuples(index=False):
        path = places.student(row, seed) / "samples.safetensors"
        if path.exists():
            tensors = read_tensors(path)[0]
            found.append((row, tensors[INPUT], tensors[PREDICTED]))
    return found


def read_predictions(file: Path) -> pd.DataFrame:
    """A predictions.csv, as `write_predictions` of a kind wrote it; a class may be called None or NA."""
    return pd.read_csv(file, dtype=dict.fromkeys(("actual", "teacher", "predicted"), str), keep_default_na=False)


def titled(score: str) -> str:
    """A score of the tables as figures write it."""
    agreement = "agreement with the teacher"
    words = {"top1": "top-1", "miou": "mean IoU", "agree": agreement, "agree_pool": agreement}
    words["agree_inverted"] = f"{agreement} on inverted images"
    return f"{words.get(score, score)}, %"


def draw_rows(ax: plt.Axes, runs: pd.DataFrame, x: str, score: str, teacher: float | None) -> None:
    """Each row's `score` over the column `x`, mean and range over seeds; the grey line is a `teacher` that was scored."""
    rows = runs.rename(columns={"method": "row"})
    style = {"hue": "row", "style": "row", "palette": colours(rows["row"]), "markers": True, "dashes": False}
    sns.lineplot(rows, x=x, y=score, errorbar=("pi", 100), ax=ax, **style)
    if teacher is not None:
        ax.axhline(teacher, color="grey", linestyle="--")
    ax.set(ylabel=titled(score), xscale="log")
    ax.minorticks_off()
    ax.legend(title=None, fontsize=7)


def side_by_side(count: int, nothing: str) -> tuple[plt.Figure, list[plt.Axes]]:
    """A figure of `count` panels, some in a row; with none it says `nothing`."""
    down, across = max(1, math.ceil(count / ACROSS)), max(1, min(ACROSS, count))
    figure, axes = plt.subplots(down, across, figsize=(5.2 * across, 4.6 * down), squeeze=False, layout="constrained")
    for ax in axes.flat[count:]:
        ax.axis("off")
    if not count:
        axes[0, 0].text(0.5, 0.5, nothing, ha="center")
    return figure, list(axes.flat[:count])


def save(figure: plt.Figure, places: Places, name: str) -> None:
    """Write the task's figure called `name`, atomically."""
    write(figure, places.figures, name)


def write(figure: plt.Figure, folder: Path, name: str) -> None:
    """Write the figure called `name` into `folder`, atomically."""
    with replacing(folder / f"{name}.png") as temporary:
        figure.savefig(temporary, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
