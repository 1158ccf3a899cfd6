"""Figures of the methods: their images, their learning curves, their results."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from safetensors.torch import load_file
from stages.features import pair_distances, penultimate
from stages.figures.panels import CLASSES, mosaic, save, show
from stages.intervals import half_interval
from stages.models import logits_of
from stages.params import TEACHER
from torch import Tensor

from stages import models, paths
from stages.datasets import ImageSet
from stages.engine.players import Teacher

PAIRED = 300  # images of a set whose distances are drawn


def samples(task: str, students: pd.DataFrame) -> None:
    """OOD pool, synthetic images of each method's first seed, in-domain images: one column a class that the teacher sees."""
    blueprint, net = models.load(paths.teacher(task))
    net.eval()
    pool = ImageSet.load(paths.pool(task) / "pool.safetensors")
    drawn = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))[:2000]
    shown = [("OOD pool", *_with_logits(pool.subset(drawn), net))]
    shown += _samples(task, students)
    shown.append(("in-domain (validation)", *_with_logits(ImageSet.load(paths.split(task, "val")), net)))
    classes = min(len(blueprint.classes), CLASSES)
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 2.0 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, images, logits) in zip(axes.flat, shown, strict=False):
        show(ax, mosaic(images, logits.argmax(1), classes), title)
    figure.suptitle(
        f"{task}: columns are classes as the teacher sees them ({', '.join(blueprint.classes[:classes])})", fontsize=10
    )
    save(figure, task, "samples")


def _with_logits(images: ImageSet, net: torch.nn.Module) -> tuple[Tensor, Tensor]:
    batches = list(images.all_batches(256))
    return torch.cat(batches), logits_of(net, batches)


def curves(task: str, students: pd.DataFrame) -> None:
    """Validation accuracy over the share of the schedule done: mean and range over seeds."""
    runs = zip(students["method"], students["seed"], strict=True)
    frames = [pd.read_csv(paths.curve(task, label, seed)).assign(method=label, seed=seed) for label, seed in runs]
    for frame in frames:
        frame["done"] = 100 * frame["step"] / frame["step"].max()
    figure, ax = plt.subplots(figsize=(7, 4))
    sns.lineplot(pd.concat(frames), x="done", y="val_top1", hue="method", style="method", errorbar=("pi", 100), ax=ax)
    ax.set(xlabel="schedule done, %", ylabel="top-1 on validation split, %", title=f"{task}: learning curves (band: all seeds)")
    ax.legend(title=None, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    save(figure, task, "curves")


def confusion(task: str, runs: pd.DataFrame, title: str, file: str, suffix: str) -> None:
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


def bars(task: str, runs: pd.DataFrame, title: str, suffix: str) -> None:
    """Test accuracy of each method with its 95 % t-interval; every seed a dot; the teacher a line."""
    students = runs[runs["method"] != TEACHER]
    groups = students.groupby("method", sort=False)["top1"]
    figure, ax = plt.subplots(figsize=(7, 0.5 * len(groups) + 1.2))
    sns.barplot(students, x="top1", y="method", hue="method", errorbar=None, ax=ax, alpha=0.75)
    means, halves = groups.mean(), [half_interval(list(values)) for _, values in groups]
    ax.errorbar(means, range(len(means)), xerr=halves, fmt="none", ecolor="black", capsize=4)
    sns.stripplot(students, x="top1", y="method", color="black", size=3, ax=ax)
    teacher = runs.loc[runs["method"] == TEACHER, "top1"].iloc[0]
    ax.axvline(teacher, color="grey", linestyle="--")
    ax.set(
        xlim=(0, 102),
        xlabel="top-1 on test split, % (95 % t-interval; dots are seeds; dashed: teacher)",
        ylabel=None,
        title=title,
    )
    save(figure, task, f"accuracy{suffix}")


def diversity(task: str, students: pd.DataFrame) -> None:
    """Distances between the teacher's features of two images: of each method's first seed, and of the in-domain images."""
    blueprint, net = models.load(paths.teacher(task))
    teacher = Teacher(net, blueprint.network)
    val = torch.cat(list(ImageSet.load(paths.split(task, "val")).all_batches(256)))
    shown = {label: images for label, images, _ in _samples(task, students)} | {"in-domain (validation)": val}
    distances = {label: pair_distances(penultimate(teacher, images[:PAIRED])).numpy() for label, images in shown.items()}
    frame = pd.concat([pd.DataFrame({"distance": values, "images": label}) for label, values in distances.items()])
    figure, ax = plt.subplots(figsize=(6.5, 0.45 * len(shown) + 1))
    sns.boxplot(frame, x="distance", y="images", hue="images", whis=(5, 95), showfliers=False, ax=ax)
    ax.axvline(float(np.median(distances["in-domain (validation)"])), color="grey", linestyle="--")
    ax.set(xlabel="distance of two images in the teacher's features (box: quartiles)", ylabel=None, title=f"{task}: diversity")
    save(figure, task, "diversity")


def _samples(task: str, students: pd.DataFrame) -> list[tuple[str, Tensor, Tensor]]:
    """Name, images and the teacher's logits of each method that makes images, for its first seed."""
    found = []
    for label, seed in students.drop_duplicates("method")[["method", "seed"]].itertuples(index=False):
        path = paths.student(task, label, seed) / "samples.safetensors"
        if path.exists():
            tensors = load_file(path)
            found.append((label, tensors["images"], tensors["logits"]))
    return found
