"""Stage `overview`: one table of every task that has been reported, this time or before.

Usage: python -m stages.overview
"""

import math
from typing import Any

import pandas as pd

from stages import params, paths
from stages.support.errors import run_script
from stages.support.files import read_json, replacing, write_json

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
    "Accuracy on the test split after the last step: mean over n seeds with a 95 % t-interval. gain: points over `kd_ood`, or on "
    "a student's domain over `supervised_student_domain`. agree and KL(T‖S): against the teacher. ms: one image on a CPU thread. "
    "† upper bound: sees the teacher's own training images, which a user does not have. The teacher is one network, so it has no "
    "interval. FD: Fréchet distance between a method's images and the in-domain validation split in the teacher's penultimate "
    "features (not Inception's). spread: mean distance of two images' features, in % of the in-domain one. Cost of one run: "
    "thousands of synthetic images made for the student, of images through the teacher forward and backward, seconds of "
    "synthesis and of distillation."
)
SMOKE = "**Smoke scale: everything was shrunk to seconds, no number means anything.**"


def main() -> None:
    """Write table.md, table.csv and summary.json of all files under results/tasks."""
    reports = in_order(params.load())
    text, frames, summary, costs = [], [], {}, {}
    for task, report in reports.items():
        for title, rows in report["tables"].items():
            table = pd.DataFrame(rows).set_index("method").astype(float)
            frames.append(table.assign(task=title).reset_index())
            warning = [SMOKE] if report["scale"] == "smoke" else []
            text += [f"### {title}", *warning, to_markdown(table, set(report["upper_bounds"]))]
            summary[title] = {label: round(value, 2) for label, value in table["top1"].items()}
        first = next(iter(report["tables"].values()))
        costs[task] = {row["method"]: {key: float(f"{row[key]:.4g}") for key in COST} for row in first[1:]}
    everything = pd.concat(frames)
    if len(both := beside_each_other(everything)):
        text = ["### Tasks beside each other: top-1 %", both.to_markdown(disable_numparse=True), *text]
    with replacing(paths.RESULTS / "table.md") as temporary:
        temporary.write_text("\n\n".join([*text, NOTE]) + "\n")
    with replacing(paths.RESULTS / "table.csv") as temporary:
        columns = ["task", "method", *(key for key in COLUMNS if key in everything)]
        everything[columns].to_csv(temporary, index=False, float_format="%.5g")
    write_json(paths.RESULTS / "summary.json", {**summary, "cost": costs})
    print("\n\n".join(text))


def in_order(settings: params.Params) -> dict[str, Any]:
    """What `report` wrote of each task: those that run now first, then earlier ones by name."""
    files = {path.stem: path for path in sorted(paths.report("").parent.glob("*.json"))}
    names = [*(name for name in settings.run.tasks if name in files), *(name for name in files if name not in settings.run.tasks)]
    return {name: read_json(files[name]) for name in names}


def beside_each_other(everything: pd.DataFrame) -> pd.DataFrame:
    """Methods by tasks, "mean ± half interval", for the methods that several tasks have; empty where there are none."""
    pairs = zip(everything["top1"], everything["ci95"], strict=True)
    cells = [f"{mean:.2f}" if math.isnan(half) else f"{mean:.2f} ± {half:.2f}" for mean, half in pairs]
    wide = everything.assign(cell=cells).pivot(index="method", columns="task", values="cell")
    wide = wide.reindex(index=everything["method"].unique(), columns=everything["task"].unique())
    return wide[wide.notna().sum(axis=1) > 1].dropna(axis=1, how="all").fillna("–").rename_axis(index="method", columns=None)


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
