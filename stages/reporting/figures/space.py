"""The space that the features of several networks share."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
from sklearn.decomposition import PCA

from stages.reporting.figures.panels import save
from stages.settings.paths import Places
from stages.support.files import read_tensors

COLUMNS = 3


def draw(places: Places, students: pd.DataFrame) -> None:
    """Each network's features of the same images, projected to two dimensions, of each method's first seed that has a space."""
    first = students.drop_duplicates("method")[["method", "seed"]].itertuples(index=False)
    files = {row: places.student(row, seed) / "space.safetensors" for row, seed in first}
    shown = {row: read_tensors(path)[0] for row, path in files.items() if path.exists()}
    if not shown:
        return
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 3.4 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, (row, features) in zip(axes.flat, shown.items(), strict=False):
        points = PCA(2, random_state=0).fit_transform(torch.cat(list(features.values())).numpy())
        names = [name for name, each in features.items() for _ in range(len(each))]
        frame = pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "network": names})
        ax.axis("on")
        sns.scatterplot(frame, x="x", y="y", hue="network", style="network", s=22, alpha=0.8, legend=ax is axes.flat[0], ax=ax)
        ax.set(title=row, xlabel=None, ylabel=None, xticks=[], yticks=[])
    axes.flat[0].legend(title=None, fontsize=8)
    figure.suptitle(f"{places.task}: features of the same held-out images in the common space, two principal components")
    save(figure, places, "common-space")
