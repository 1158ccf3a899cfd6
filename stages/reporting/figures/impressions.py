"""Figures of what a template remembers (Impression Space, arXiv:2007.05441)."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from torch import Tensor

from stages.losses.impressions import similarity
from stages.reporting.figures.panels import write


def by_code(found: pd.DataFrame, folder: Path, title: str) -> None:
    """How often the nearest images tell an image's class, by each code; every network a dot."""
    figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
    sns.barplot(found, x="code", y="top1", hue="template", errorbar=None, alpha=0.75, ax=ax)
    sns.stripplot(found, x="code", y="top1", hue="template", dodge=True, palette="dark:black", size=3, legend=False, ax=ax)
    ax.set(xlabel=None, ylabel="5-nearest-neighbour accuracy, %", title=title)
    ax.tick_params(axis="x", rotation=20)
    ax.legend(title="template")
    write(figure, folder, "neighbours-accuracy")


def relations(distances: Tensor, names: Sequence[str], folder: Path, name: str, title: str) -> None:
    """exp(-D / median D) of every two impressions, as colours."""
    frame = pd.DataFrame(similarity(distances).numpy(), list(range(len(names))), list(range(len(names))))
    side = min(max(5.0, 0.24 * len(names)), 8.0)
    figure, ax = plt.subplots(figsize=(side + 1.5, side), layout="constrained")
    shown = len(names) <= 40
    bar = {"label": "similarity of two impressions: exp(-D / median D)"}
    sns.heatmap(frame, vmin=0, vmax=1, cmap="viridis", square=True, xticklabels=False, yticklabels=False, ax=ax, cbar_kws=bar)
    if shown:
        ax.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90, fontsize=7)
        ax.set_yticks(np.arange(len(names)) + 0.5, names, rotation=0, fontsize=7)
    else:  # images, class after class: each class named once, in its middle
        firsts = [i for i, one in enumerate(names) if i == 0 or names[i - 1] != one]
        middles = [(a + b) / 2 for a, b in zip(firsts, [*firsts[1:], len(names)], strict=True)]
        for put in (ax.set_xticks, ax.set_yticks):
            put(middles, [names[i] for i in firsts], rotation=0, fontsize=8)
        ax.set(xlabel="class of the one image", ylabel="class of the other")
    ax.set_title(title, fontsize=10)
    write(figure, folder, name)


def rows(
    images: Sequence[Tensor],
    names: Sequence[str],
    folder: Path,
    name: str,
    title: str,
    gap: Sequence[int] = (),
    columns: Sequence[str] = (),
) -> None:
    """Rows of images (n, C, H, W) in [0, 1], each with its name; names over `columns`; white ones before the places in `gap`."""
    count, (channels, height, width) = max(map(len, images)), images[0].shape[1:]
    canvas = torch.ones(channels, len(images) * (height + 2), count * (width + 2) + 6 * len(gap))
    for i, row in enumerate(images):
        for j, image in enumerate(row):
            left = j * (width + 2) + 6 * sum(place <= j for place in gap)
            canvas[:, i * (height + 2) : i * (height + 2) + height, left : left + width] = image
    pixels = canvas.permute(1, 2, 0).squeeze(2).numpy()
    scale = 0.5 / height
    figure, ax = plt.subplots(figsize=(1.4 + scale * pixels.shape[1], 0.5 + scale * pixels.shape[0]), layout="constrained")
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_yticks([(i + 0.5) * (height + 2) for i in range(len(names))], names, fontsize=8)
    ax.set_xticks([(j + 0.5) * (width + 2) for j in range(len(columns))], columns, fontsize=8)
    ax.xaxis.tick_top()
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)
    ax.set_title(title, fontsize=9)
    write(figure, folder, name)
