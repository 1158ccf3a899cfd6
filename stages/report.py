"""Stage `report`: means, intervals, one table and a set of figures per task.

Usage: python -m stages.report
"""

import math

import pandas as pd

from stages import figures, params, paths
from stages.errors import UserError, run_script
from stages.files import read_json, replacing, write_json
from stages.intervals import half_interval
from stages.params import TEACHER, Params, method_class

BASELINE = "kd_ood"  # gains are points over this method
COLUMNS = {
    "top1": "top-1 %",
    "ci95": "± 95 %",
    "n": "n",
    "gain": "gain",
    "top5": "top-5 %",
    "agree": "agree %",
    "kl": "KL(T‖S)",
    "nll": "NLL",
    "ece": "ECE %",
    "params": "parameters",
    "macs": "MACs",
    "kb": "KB",
    "ms": "ms",
    "fd": "FD",
    "spread": "spread %",
    "images": "images, k",
    "forwards": "T fwd, k",
    "backwards": "T bwd, k",
    "synthesis_s": "synth. s",
    "distillation_s": "distil. s",
}
COST = ("images", "forwards", "backwards", "synthesis_s", "distillation_s")
THOUSANDS = ("images", "forwards", "backwards")
NOTE = (
    "Accuracy on the in-domain test split after the last step: mean over n seeds with a 95 % t-interval. gain: points over "
    f"`{BASELINE}`. agree and KL(T‖S): against the teacher. ms: one image on one CPU thread. † upper bound: sees the teacher's "
    "own training images, which a user does not have. The teacher is one network, so it has no interval. FD: Fréchet distance "
    "between a method's images and the in-domain validation split in the teacher's penultimate features (not Inception's). "
    "spread: mean distance of two images' features, in % of the in-domain one. Cost of one run: thousands of synthetic images "
    "made for the student, of images through the teacher forward and backward, seconds of synthesis and of distillation."
)


def main() -> None:
    """Write table.md, table.csv, summary.json and the figures."""
    settings = params.load()
    tables, frames, summary, costs = [], [], {}, {}
    for task in settings.run.tasks:
        runs = collect(settings, task)
        table = summarise(runs)
        frames.append(table.assign(task=task).reset_index())
        tables.append(f"### {task}\n\n{to_markdown(table, upper_bounds(settings))}\n")
        summary[task] = {label: round(value, 2) for label, value in table["top1"].items()}
        costs[task] = {label: {key: float(f"{row[key]:.4g}") for key in COST} for label, row in table.iloc[1:].iterrows()}
        figures.draw_all(task, runs)
    warning = (
        "**Smoke scale: everything was shrunk to seconds, no number means anything.**\n\n"
        if settings.run.scale == "smoke"
        else ""
    )
    with replacing(paths.RESULTS / "table.md") as temporary:
        temporary.write_text(f"{warning}{chr(10).join(tables)}\n{NOTE}\n")
    with replacing(paths.RESULTS / "table.csv") as temporary:
        columns = ["task", "method", *(key for key in COLUMNS if any(key in frame for frame in frames))]
        pd.concat(frames)[columns].to_csv(temporary, index=False, float_format="%.5g")
    write_json(paths.RESULTS / "summary.json", {**summary, "cost": costs})
    print("\n".join(tables))


def collect(settings: Params, task: str) -> pd.DataFrame:
    """One row a run of `task`: method, seed and its metrics; the teacher first."""
    rows = []
    for label, seed in params.runs(settings.run):
        path = paths.scores(task, label, seed) / "metrics.json"
        if not path.exists():
            raise UserError(f"{path} is missing; `dvc repro` builds it")
        rows.append({"method": label, "seed": seed, **read_json(path)})
    return pd.DataFrame(rows).drop(columns="per_class")


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds in the order of first appearance, with n, half the 95 % t-interval of top-1, and the gain."""
    groups = runs.drop(columns="seed").groupby("method", sort=False)
    table = groups.mean()
    table["n"] = groups.size()
    table["ci95"] = [half_interval(list(group["top1"])) for _, group in groups]
    base = table["top1"].get(BASELINE, math.nan)
    table["gain"] = (table["top1"] - base).where(table.index != TEACHER)
    return table


def upper_bounds(settings: Params) -> set[str]:
    """Rows that see in-domain data."""
    labels = (*settings.run.methods, *settings.run.ablations)
    return {label for label in labels if method_class(settings.method_of(label)).upper_bound}


def to_markdown(table: pd.DataFrame, marked: set[str]) -> str:
    """A Markdown table with short numbers; rows in `marked` get a dagger."""
    shown = pd.DataFrame({"method": [f"{label} †" if label in marked else label for label in table.index]})
    digits = {"top1": 2, "ci95": 2, "gain": 1, "top5": 2, "agree": 2, "kl": 3, "nll": 3, "ece": 2, "ms": 2, "kb": 0, "fd": 2}
    digits |= {"spread": 0, **dict.fromkeys(COST, 1)}
    table = table.assign(**{key: table[key].mask(table[key] == 0) / 1000 for key in THOUSANDS if key in table})
    for key, title in COLUMNS.items():
        if key in table:
            form = f"{{:.{digits[key]}f}}" if key in digits else "{:,.0f}"
            shown[title] = ["–" if math.isnan(value) else form.format(value) for value in table[key]]
    return shown.to_markdown(index=False, disable_numparse=True, colalign=["left"] + ["right"] * (len(shown.columns) - 1))


if __name__ == "__main__":
    run_script(main)
