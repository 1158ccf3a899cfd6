"""Figures of the methods: their learning curves, their results, how varied their images are."""

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from stages.datasets.examples import Examples, pack
from stages.engine.teacher import Teacher
from stages.reporting.features import pair_distances, penultimate
from stages.reporting.figures.panels import colours, first_samples, save, titled
from stages.reporting.intervals import half_interval
from stages.settings.params import TEACHER
from stages.settings.paths import Places
from stages.support.seeds import shuffled

PAIRED = 300  # images of a set whose distances are drawn


def curves(places: Places, kind: Any, students: pd.DataFrame) -> None:
    """The headline score on the validation split over the share of the schedule done: mean and range over seeds.

    A panel for each group of rows, with those of the others in grey.
    """
    runs = students[["method", "seed", "group"]].itertuples(index=False)
    frames = [
        pd.read_csv(places.curve(row, seed)).assign(method=row, run=f"{row} {seed}", group=group) for row, seed, group in runs
    ]
    for frame in frames:
        frame["done"] = 100 * frame["step"] / max(frame["step"].max(), 1)  # a row that takes no step stands at its start
    every, score = pd.concat(frames, ignore_index=True), f"val_{kind.headline}"
    groups, palette = list(every.groupby("group", sort=False)), colours(every["method"])
    taught = pd.read_csv(places.curve(TEACHER, 0))
    teacher = taught[score].iloc[-1] if score in taught else math.nan
    figure, axes = plt.subplots(
        1, len(groups), figsize=(max(5.5, 4 * len(groups)), 5), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, (group, mine) in zip(axes.flat, groups, strict=True):
        for _, other in every[every["group"] != group].groupby("run"):
            ax.plot(other["done"], other[score], color="0.85", linewidth=1)
        sns.lineplot(mine, x="done", y=score, hue="method", style="method", palette=palette, errorbar=("pi", 100), ax=ax)
        ax.axhline(teacher, color="grey", linestyle="--")
        ax.set(xlabel="schedule done, %", ylabel=f"{titled(kind.headline)}, {kind.held}", title=group)
        ax.title.set_fontsize(10)
        ax.legend(title=None, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, borderaxespad=0)
    figure.suptitle(f"{places.task}: learning curves (band: all seeds; grey: the other rows; dashed: teacher)", fontsize=11)
    save(figure, places, "curves")


def bars(places: Places, kind: Any, runs: pd.DataFrame, score: str, title: str, suffix: str) -> None:
    """The `score` of each row with its 95 % t-interval; every seed a dot; the teacher a line."""
    students = runs[runs["method"] != TEACHER]
    groups = students.groupby("method", sort=False)[score]
    figure, ax = plt.subplots(figsize=(7, 0.4 * len(groups) + 1.2))
    palette = colours(students["method"])
    sns.barplot(students, x=score, y="method", hue="method", palette=palette, errorbar=None, ax=ax, legend=False)
    means, halves = groups.mean(), [half_interval(list(values)) for _, values in groups]
    ax.errorbar(means, range(len(means)), xerr=halves, fmt="none", ecolor="black", capsize=4)
    sns.stripplot(students, x=score, y="method", color="black", size=3, jitter=False, ax=ax)
    for teacher in runs.loc[runs["method"] == TEACHER, score]:
        ax.axvline(teacher, color="grey", linestyle="--")
    ax.set(
        xlim=(0, 102),
        xlabel=f"{titled(score)}, {kind.tested}",
        ylabel=None,
        title=f"{title} (95 % t-interval; dots are seeds; dashed: teacher)",
    )
    save(figure, places, f"accuracy{suffix}")


def diversity(places: Places, kind: Any, teacher: Teacher, students: pd.DataFrame) -> None:
    """Distances between the teacher's features of two images: of each method's first seed, and of the validation images."""
    shown = {row: pack(images) for row, images, _ in first_samples(places, students)}
    shown[kind.held] = Examples.load(places.split("val"))
    drawn = {row: images.subset(shuffled(len(images))[:PAIRED]) for row, images in shown.items()}  # they may be sorted by class
    distances = {row: pair_distances(penultimate(teacher, kind.shown(images, 256))).numpy() for row, images in drawn.items()}
    frame = pd.concat(
        [pd.DataFrame({"distance": values, "images": label}) for label, values in distances.items()], ignore_index=True
    )
    figure, ax = plt.subplots(figsize=(6.5, 0.45 * len(shown) + 1))
    palette = {**colours(row for row in shown if row != kind.held), kind.held: "lightgrey"}
    sns.boxplot(frame, x="distance", y="images", hue="images", palette=palette, whis=(5, 95), showfliers=False, ax=ax)
    ax.axvline(float(np.median(distances[kind.held])), color="grey", linestyle="--")
    ax.set(
        xlabel="distance of two images in the teacher's features (box: quartiles)", ylabel=None, title=f"{places.task}: diversity"
    )
    save(figure, places, "diversity")
