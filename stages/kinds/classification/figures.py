"""Figures of classifiers."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from stages.reporting.figures.panels import save
from stages.settings import paths


def predictions(task: str, runs: pd.DataFrame, title: str, file: str, suffix: str) -> None:
    """Predicted against actual class on the test split, in percent of the actual class, over all seeds."""
    groups = {str(label): list(seeds) for label, seeds in runs.groupby("method", sort=False)["seed"]}
    columns = min(4, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3 * columns, 3 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, (label, seeds) in zip(axes.flat, groups.items(), strict=False):
        files = [paths.scores(task, label, seed) / f"{file}.csv" for seed in seeds]
        frame = pd.concat([pd.read_csv(file, dtype={"actual": str, "predicted": str}) for file in files])
        order = sorted(frame["actual"].unique())
        table = pd.crosstab(frame["actual"], frame["predicted"], normalize="index").reindex(
            index=order, columns=order, fill_value=0
        )
        few = len(order) <= 20
        sns.heatmap(
            100 * table, vmin=0, vmax=100, cmap="rocket_r", cbar=False, square=True, ax=ax, xticklabels=few, yticklabels=few
        )
        ax.axis("on")
        ax.set_title(label, fontsize=10)
        ax.set(xlabel="predicted", ylabel="actual")
    figure.suptitle(f"{title}: confusion on the test split, % of each actual class")
    save(figure, task, f"confusion{suffix}")
