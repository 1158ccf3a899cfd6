"""What students that ship cost, beside what they can."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogLocator, NullFormatter

from stages.reporting.figures.panels import colours, titled, write


def draw(students: pd.DataFrame, teacher: dict[str, Any], score: str, title: str, folder: Path) -> None:
    """students.png in `folder`: the headline `score` over kilobytes and milliseconds, a dot a student; the teacher a star.

    Milliseconds are PyTorch's, for this is how the teacher was timed.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    panels = (("onnx_kb", "kb", "weights, KB"), ("ms", "ms", "one input on one CPU thread in PyTorch, ms"))
    for ax, (key, of_teacher, label) in zip(axes, panels, strict=True):
        sns.scatterplot(
            students, x=key, y=score, hue="row", style="row", palette=colours(students["row"]), s=70, ax=ax, legend=ax is axes[-1]
        )
        if score in teacher and teacher.get(of_teacher):
            ax.scatter(teacher[of_teacher], teacher[score], marker="*", s=220, color="grey", label="teacher")
        ax.set(xscale="log", xlabel=label, ylabel=titled(score))
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    axes[-1].legend(title=None, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    figure.suptitle(f"{title}: students that ship")
    write(figure, folder, "students")
