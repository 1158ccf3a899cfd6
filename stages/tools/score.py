"""Score a task's teacher and students on labelled images of yours, which this repository has never seen.

FOLDER, or a tar archive, has a sub-folder for each class; of a task that segments, it is laid out as the task's own masks.
Usage: python -m stages.tools.score TASK FOLDER
"""

import math
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from stages.datasets.examples import Examples
from stages.datasets.sources.folder import Source as FolderSource
from stages.datasets.sources.tar import Source as TarSource
from stages.engine.runtime import start
from stages.engine.teacher import ASKED
from stages.jobs.setup import open_teacher
from stages.jobs.size import largest
from stages.kinds import IMAGES, ONE_LABEL, Kind, aspect
from stages.networks import weights
from stages.reporting.figures.panels import titled
from stages.reporting.tables import summarise
from stages.settings import params
from stages.settings.params import TEACHER
from stages.settings.paths import STUDENTS, Places
from stages.settings.task import Task
from stages.support.errors import UserError, about, run_script
from stages.support.progress import progress


def main(name: str, folder: str) -> None:
    """Print the headline score of the teacher and of each row whose students lie here: the mean over seeds, and its interval.

    Of the best student also the classes of which least is right. A teacher that was asked once has no line.
    """
    settings, places = params.load(), Places(name)
    task = settings.task(name)
    if not (files := sorted((STUDENTS / name).glob(f"*/[0-9]*/{weights.WEIGHTS}"))):
        raise UserError(f"there is no student of {name} here; `dvc repro` trains them, `dvc pull` or `dvc checkout` fetches them")
    runtime = start("fp32", macs=largest(task, name, card=places.teacher / weights.CARD), threads=settings.run.threads)
    _, kind, teacher = open_teacher(places, task, runtime)
    with about(folder):
        examples = labelled(task, kind, folder)
    known = kind.answers(teacher, examples) if ASKED in teacher.can else None
    lines, best, weak = list[dict[str, Any]](), -1.0, ""
    if known is not None:
        lines.append({"method": TEACHER, "seed": 0, kind.score: kind.measure(known, examples), "agree": 100.0})
    for file in progress(files, f"score {name}"):
        row, seed = file.parts[-3:-1]
        blueprint, net = weights.load(file.parent)
        if blueprint.classes != kind.classes:
            print(f"{row}, seed {seed}, is left out: it was made when the task had other classes")
            continue
        logits = kind.answers(runtime.place(net.eval()), examples)
        agree, found = math.nan if known is None else kind.agreement(logits, known), kind.measure(logits, examples)
        lines.append({"method": row, "seed": int(seed), kind.score: found, "agree": agree})
        if ONE_LABEL in kind.has and found > best:
            best, weak = found, f"lowest of {row}, seed {seed}: {lowest(logits, examples)}"
    table = summarise(pd.DataFrame(lines), kind.score, baseline=None)[[kind.score, "ci95", "n", "agree"]]
    table.columns = pd.Index([titled(kind.score), "± 95 %", "seeds", titled("agree")])
    print(f"\n{name}: {len(examples):,} images of {folder}\n{table.to_string(float_format='{:.2f}'.format, na_rep='–')}")
    print(
        f"by so many images a score of 50 % is known to {100 / len(examples) ** 0.5:.1f} points",
        *([weak] if weak else []),
        sep="\n",
    )


def lowest(logits: Tensor, examples: Examples) -> str:
    """The three classes of which the smallest part is right, of logits (n, K)."""
    right = (logits.argmax(1) == examples.label).double()
    parts = {k: 100 * right[examples.label == k].mean().item() for k in examples.label.unique().tolist()}
    return ", ".join(f"{examples.classes[k]} ({parts[k]:.0f} %)" for k in sorted(parts, key=parts.__getitem__)[:3])


def labelled(task: Task, kind: Kind, folder: str) -> Examples:
    """The images with their labels, the classes in the order of the task's. Raises UserError for texts, and for other classes."""
    if IMAGES not in kind.has:
        raise UserError("images can be scored, texts not; `stages.tools.predict` says what a student takes them for")
    form = task.form
    if ONE_LABEL in kind.has:
        tree = FolderSource(source="folder", path=folder) if Path(folder).is_dir() else TarSource(source="tar", path=folder)
        read = tree.read(form)
    elif hasattr(task.in_domain, "path"):
        source: Any = task.in_domain.model_copy(update={"path": folder})
        read = source.read_test(form) or source.read(form)
    else:
        raise UserError("the task's own masks lie in no folder, so nothing says how yours should lie")
    splits = aspect(task.kind, "splits")
    splits.check(read, folder, least=0)
    found: Examples = splits.of(read, kind.classes)
    if others := sorted(set(read.classes) - set(kind.classes)):
        print(f"{folder}: the task has no class {', '.join(others[:5])}; what is of it counts nowhere")
    return found


if __name__ == "__main__":
    run_script(main, "task", "folder")
