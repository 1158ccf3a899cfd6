"""Which label-free score orders students as their true accuracy does? All scores of all students of a task, and how they do.

Usage: python -m tests.benchmark_judges TASK   in a folder where its teacher, pool and students lie; writes docs/judging/TASK.csv
       python -m tests.benchmark_judges        reads these files; prints Kendall's tau and the regret of each score; draws them
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from scipy.stats import kendalltau, t
from torch import Tensor

from stages.curation.weights import class_deviations, matching, sketched
from stages.datasets.examples import Examples, pack
from stages.datasets.images import to_uint8, to_unit
from stages.engine import runtime as rt
from stages.engine.teacher import BATCH_NORM, Teacher
from stages.jobs.inverted import class_agreement, fair, inverted
from stages.jobs.setup import open_teacher, schedule_of
from stages.kinds import IMAGES as KIND_OF_IMAGES
from stages.kinds import Kind
from stages.losses.distillation import kl_divergence
from stages.losses.synthesis import statistics_mismatch
from stages.methods import method_class, upper_bound
from stages.methods.bases.method import Schedule
from stages.methods.blocks.composer import shares, tile_weights
from stages.networks import weights
from stages.networks.deviations import deviations
from stages.networks.taps import BatchNorms, moments
from stages.settings.params import load
from stages.settings.paths import Places
from stages.support.progress import progress
from stages.tools import choose

FOLDER = Path("docs/judging")
IMAGES, CPU = 1024, rt.Runtime(torch.device("cpu"))  # so many of the pool
ALLOWED = choose.CANDIDATES
ABOUT = ["row", "seed", "bound", "top1", "agree"]
CHOSEN_ON = ("digits", "cifar10", "animals")  # families on which the score was chosen; others were opened after that


def measure(task: str) -> pd.DataFrame:
    """A line a student: its accuracy and agreement on the test split, and what each score says of it."""
    places = Places(task)
    settings = load()
    blueprint, kind, teacher = open_teacher(places, settings.task(task), CPU)
    test, pool = Examples.load(places.split("test")), Examples.load(places.pool / "pool.safetensors")
    torch.manual_seed(0)
    sets = images_of(task, kind, teacher, blueprint, pool, schedule_of(settings.task(task).distill))
    said = {name: kind.answers(teacher, images) for name, images in sets.items()}
    truth, weight = kind.answers(teacher, test), weights_of(teacher, sets["pool"], said["pool"])
    sure = said["pool"].softmax(1).amax(1)
    students = {(file.parts[-3], file.parts[-2]): weights.load(file.parent)[1].eval() for file in found(task)}
    answered = {run: {name: kind.answers(net, images) for name, images in sets.items()} for run, net in students.items()}
    lines = []
    for (row, seed), net in progress(students.items(), f"judge {task}"):
        mine, logits = answered[row, seed], kind.answers(net, test)
        same = (mine["pool"].argmax(1) == said["pool"].argmax(1)).double()
        confidence = mine["pool"].softmax(1).amax(1)
        threshold = confidence.double().quantile(1 - same.mean())  # above it lie as many as agree (Garg et al. 2022)
        surer = (mine["fitted"].softmax(1).amax(1) > threshold).double() if "fitted" in mine else None
        others = [answered[run]["pool"] for run in students if run[0] == row and run[1] != seed]
        lines.append(
            {
                "row": row,
                "seed": seed,
                "bound": upper_bound(method_class(settings, row)),
                "top1": kind.measure(logits, test),
                "agree": kind.agreement(logits, truth),
                "pool": 100 * same.mean().item(),
                "pool_kl": -kl_divergence(said["pool"], mine["pool"]).item(),
                "pool_sure": 100 * (same * sure).sum().item() / sure.sum().item(),
                "pool_weighted": 100 * (same * weight).sum().item() / weight.sum().item(),
                "pool_classes": class_agreement(mine["pool"], said["pool"]),
                "seeds": sum(kind.agreement(mine["pool"], other) for other in others) / len(others) if others else None,
                **{name: class_agreement(mine[name], said[name]) for name in sets if name != "pool"},
                **({"inverted": None} if "inverted" in sets and not fair(method_class(settings, row)) else {}),
                "threshold": None if surer is None else 100 * surer.mean().item(),
            }
        )
    return pd.DataFrame(lines)


def found(task: str) -> list[Path]:
    return sorted(Path("models/students", task).glob("*/*/weights.safetensors"))


def images_of(
    task: str, kind: Kind, teacher: Teacher, blueprint: weights.Blueprint, pool: Examples, schedule: Schedule
) -> dict[str, Examples]:
    """Images by name. From those of the pool students learned; that flatters the pool's scores, and no others."""
    some = pool.subset(torch.randperm(len(pool))[:IMAGES])
    sets = {"pool": some.input}
    if KIND_OF_IMAGES in kind.has:
        drawn = tile_weights(pool, len(kind.classes), 1.0)
        first, second = (pool.input[torch.multinomial(drawn, IMAGES, replacement=True)] for _ in range(2))
        part = shares(IMAGES, *first.shape[2:], 0.5, 0.25)
        sets["composed"] = to_uint8(to_unit(first) * part + to_unit(second) * (1 - part))
    if BATCH_NORM in teacher.can:
        sets["fitted"] = to_uint8(fitted(teacher, to_unit(some.input), f"fit {task}"))
        sets["inverted"] = inverted((blueprint, kind, teacher), schedule, CPU, f"invert {task}").input
    return {name: pack(images) for name, images in sets.items()}


def fitted(teacher: Teacher, images: Tensor, what: str) -> Tensor:
    """Images (n, C, H, W) in [0, 1], moved so that a batch's statistics in T come near those of its training; `what` names them.

    Adam descends DeepInversion's batch-norm term alone. No class is wanted of any image.
    """
    norms, found = BatchNorms(teacher), []
    for batch in progress(images.split(256), what):
        pixels = batch.clone().requires_grad_()
        optimizer = torch.optim.Adam([pixels], 0.01)
        for _ in range(50):
            loss = statistics_mismatch(moments(norms.ask(pixels)[1]), norms.running)
            (pixels.grad,) = torch.autograd.grad(loss, [pixels])
            optimizer.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
        found.append(pixels.detach())
    return torch.cat(found)


def weights_of(teacher: Teacher, images: Examples, logits: Tensor) -> Tensor:
    """Weights of images by which their moments and classes are those of T's training data, as `curate.weights: moments` has."""
    if BATCH_NORM not in teacher.can:
        return torch.ones(len(images))
    moments, _ = sketched(deviations(teacher, (to_unit(batch) for batch in images.input.split(64))))
    return matching(torch.cat([class_deviations(logits.softmax(1)), moments], 1))[0]


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Of each score: tau over the n students of which it says something; the accuracy lost by shipping the one it likes best.

    `regret` is to the best of these students, `of_all` to the best of all. Bounds cannot be shipped.
    """
    lines, best = [], table.loc[~table["bound"], "top1"].max()
    for score in table.columns.difference(ABOUT, sort=False):
        known = table[table[score].notna()]
        ours = known[~known["bound"]]
        if len(known) > 1 and (score != "seeds" or len(known) == len(table)):
            shipped = ours.loc[ours[score].idxmax(), "top1"]
            regrets = {"regret": ours["top1"].max() - shipped, "of_all": best - shipped}
            lines.append({"score": score, "tau": kendalltau(known[score], known["top1"])[0], **regrets, "n": len(known)})
    return pd.DataFrame(lines).set_index("score")


def chosen(table: pd.DataFrame) -> dict[str, object]:
    """What `stages.tools.choose` would take of its rows, by the images inverted from the teacher, and what is lost by it."""
    mine = table[table["row"].isin(ALLOWED) & (table["seed"] == table["seed"].min())].sort_values(
        "row", key=lambda row: row.map(ALLOWED.index)
    )
    rows = mine.head(choose.ROWS)
    taken, others = rows.loc[rows["inverted"].idxmax()], table[~table["bound"]]
    return {
        "rows": ", ".join(rows["row"]),
        "takes": taken["row"],
        "top1": taken["top1"],
        "best of them": rows["top1"].max(),
        "best of all rows": others["top1"].max(),
    }


def estimated(known: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    """How many students of `table` lie in the 90 % interval that a line through those `known` draws from `inverted` to accuracy.

    With half its mean width, in points.
    """
    x, new = known["inverted"], table.dropna(subset="inverted")
    line = np.poly1d(np.polyfit(x, known["top1"], 1))
    off = known["top1"] - line(x)
    far = 1 + 1 / len(x) + (new["inverted"] - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    half = t.ppf(0.95, len(x) - 2) * (off @ off / (len(x) - 2) * far) ** 0.5
    missed = (new["top1"] - line(new["inverted"])).abs()
    return {"n": len(new), "covered": (missed <= half).mean(), "half": half.mean()}


def family(task: str) -> str:
    """What tasks have in common, that they are not counted twice."""
    name = task.partition("-")[0].removesuffix("6")
    return "texts" if name in ("trec", "sst2", "agnews") else name


def draw(tables: dict[str, pd.DataFrame], file: Path) -> None:
    """A dot a student: its accuracy over what two scores say of it. Bounds are crosses."""
    scores = {"pool": "agreement on images of the pool, %", "inverted": "agreement on images inverted from the teacher, %"}
    every = pd.concat([table.assign(task=task) for task, table in tables.items()], ignore_index=True)
    every["what"] = every["bound"].map({False: "student", True: "upper bound"})
    figure, axes = plt.subplots(1, len(scores), figsize=(11, 4.6), sharey=True, layout="constrained")
    for ax, (score, words) in zip(axes, scores.items(), strict=True):
        sns.scatterplot(every, x=score, y="top1", hue="task", style="what", markers={"student": "o", "upper bound": "X"}, ax=ax)
        ax.set(xlabel=words, ylabel="top-1 on real test images, %", xlim=(0, 102), ylim=(0, 102))
        ax.get_legend().remove()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8)
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        FOLDER.mkdir(parents=True, exist_ok=True)
        measure(name).to_csv(FOLDER / f"{name}.csv", index=False, float_format="%.4f")
    tables = {file.stem: pd.read_csv(file) for file in sorted(FOLDER.glob("*.csv"))}
    found = {task: judged(table) for task, table in tables.items()}
    for task, lines in found.items():
        print(f"{task}\n{lines.round(2).to_string()}\n")
    means = pd.concat([lines.assign(family=family(task)) for task, lines in found.items()]).groupby(
        ["family", "score"], sort=False
    )
    print(means[["tau", "regret", "of_all"]].mean().round(2).unstack(0).to_string(), "\n")
    ranked = {task: table for task, table in tables.items() if "inverted" in table}
    print(pd.DataFrame({task: chosen(table) for task, table in ranked.items()}).T.to_string(), "\n")
    known = pd.concat([table for task, table in ranked.items() if family(task) in CHOSEN_ON]).dropna(subset="inverted")
    others = {task: estimated(known, table) for task, table in ranked.items() if family(task) not in CHOSEN_ON}
    print(pd.DataFrame(others).T.round(2).to_string())
    draw(ranked, FOLDER / "judging.png")
