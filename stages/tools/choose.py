"""Which student to ship: run a few rows that the teacher allows, compare them, and say which to export and why.

Validation images compare them. Where there are no images of the domain, images that are inverted from the teacher do, or if it
cannot be inverted those that were held out of the pool (docs/judging.md). The rows run in full, by `dvc exp run`; what is made
is not made again.
Usage: python -m stages.tools.choose TASK [ROW,ROW,...]
"""

import argparse
import csv
import math
import sys
from collections.abc import Sequence

from stages.datasets.examples import Examples
from stages.engine.runtime import start
from stages.engine.teacher import Teacher
from stages.jobs.inverted import COUNT, SCORE, compared_by
from stages.jobs.requirements import why_not
from stages.jobs.setup import data_of, open_teacher
from stages.kinds import Kind
from stages.methods import method_class, section
from stages.reporting.figures.panels import titled
from stages.settings import params
from stages.settings.params import Params
from stages.settings.paths import RUN, Places
from stages.settings.task import HELD_OUT, Task
from stages.support.errors import ANY, UserError, run_script
from stages.support.files import read_json
from stages.support.processes import call

# From what has most often been best to what is asked of no more than answers; the first few that the teacher allows are run.
CANDIDATES = ("tessera", "fast", "kd_ood_strong", "mosaickd", "tessera_black_box", "kd_ood", "asdfd")
ROWS = 3
ALONE = ("run.seeds=[0]", "run.scale=full", "impress.tasks=[]", "export.tasks=[]", "export.methods=[]", "export.seeds=[]")
UNFAIR = "learned from images such as those that compare students"
GUESS = (
    "look here: the teacher's batch normalisation cannot be read, so students were compared on the pool alone. That misleads "
    "(docs/judging.md). Label some examples and name them under `in_domain`"
)


def main(*words: str) -> None:
    """Run the rows, and print a line for each, the best first; then the command that exports it."""
    parser = argparse.ArgumentParser("python -m stages.tools.choose", description="Which student to ship")
    parser.add_argument("task", help="its name in tasks/")
    parser.add_argument("rows", nargs="?", default="", help="rows to compare, with commas (default: what the teacher allows)")
    asked = parser.parse_args(words)
    task, settings = asked.task, params.load()
    settings.task(task)
    for row in (names := [name for name in asked.rows.split(",") if name]):
        settings.method_of(row)
    _run(task, names or CANDIDATES[:1], f"curate@{task}")
    settings = params.load()
    _, kind, teacher = open_teacher(Places(task), settings.task(task), start("fp32"))
    if not (names := names or allowed(settings, task, kind.has, teacher.can)):
        raise UserError(f"no row of {', '.join(CANDIDATES)} runs on {task}; name one that does (docs/methods.md)")
    print(f"{task}: {', '.join(names)} run now, one seed each; after Ctrl-C the same command goes on", flush=True)
    _run(task, names, "overview")
    print("\n".join(["", *verdict(settings.task(task), Places(task), names, kind, teacher)]))


def verdict(task: Task, places: Places, rows: Sequence[str], kind: Kind, teacher: Teacher) -> list[str]:
    """Lines that compare what was made of `rows`, the best first, and say what to ship. Raises UserError where none ran."""
    score = compared_by(kind, teacher)
    absent = {row: why for row in rows if (why := read_json(places.student(row, 0) / RUN).get("why_not"))}
    scores = {row: _score(places, row, score) for row in rows if row not in absent}
    found = {row: value for row, value in scores.items() if value is not None}
    absent |= {row: UNFAIR for row, value in scores.items() if value is None}
    if not found:
        raise UserError(f"none of {', '.join(rows)} runs on {places.task}: it {next(iter(absent.values()))}")
    best, *others = sorted(found, key=lambda row: -found[row])
    what, n = _judges(task, places, score)
    lines = [f"{places.task}: {titled(score)}, of {n:,} {what}" + ("" if score == kind.score else "; this is no accuracy")]
    for row in (best, *others):
        lines.append(f"  {row}: {found[row]:.1f}, {read_json(places.student(row, 0) / RUN)['seconds'] / 60:.1f} minutes")
    lines += [f"  {row}: n/a, it {why}" for row, why in absent.items()]
    part = found[best] / 100
    margin = max(200 * math.sqrt(part * (1 - part) / n), 100 / n)  # about two standard errors, or one image
    if near := [row for row in others if found[best] - found[row] < margin]:
        lines.append(f"{best} is not told apart from {', '.join(near)}, by one seed and {n:,} images; take any of them")
    if score == "agree_pool":
        lines.append(GUESS)
    command = f"uv run --group onnx dvc exp run -S 'export.tasks=[{places.task}]' -S 'export.methods=[{best}]' overview export"
    return [*lines, f"to ship {best}: {command}"]


def _judges(task: Task, places: Places, score: str) -> tuple[str, int]:
    """The images that compare students, and how many they are."""
    if score == SCORE:
        return "images that were inverted from the teacher", COUNT
    held_out = task.measured == HELD_OUT
    return "images held out of the pool" if held_out else "validation images", len(Examples.load(places.validation(task)))


def allowed(settings: Params, task: str, kind: frozenset[str], can: frozenset[str]) -> list[str]:
    """The first rows of CANDIDATES that run on a task of that kind, with a teacher that can so much."""
    data = data_of(settings.task(task))
    named = ((row, method_class(settings, row), section(settings, row, task)) for row in CANDIDATES)
    return [row for row, method, values in named if why_not(method, values, kind, can, data) is None][:ROWS]


def _run(task: str, rows: Sequence[str], target: str) -> None:
    """Bring `target` up to date for one task, these rows and one seed; params.yaml says so from then on."""
    chosen = (f"run.tasks=[{task}]", f"run.methods=[{','.join(rows)}]", *ALONE)
    status = call(sys.executable, "-m", "dvc", "exp", "run", *(word for one in chosen for word in ("-S", one)), target)
    if status:
        raise UserError(f"`dvc exp run {target}` failed with {status}; mend what it says above and start again")


def _score(places: Places, row: str, score: str) -> float | None:
    """What compares a row's student: what `evaluate` found on inverted images, else the last point of its learning curve."""
    if score == SCORE:
        value: float | None = read_json(places.scores(row, 0) / "metrics.json").get(score)
        return value
    with places.curve(row, 0).open(newline="") as file:
        return float(list(csv.DictReader(file))[-1][f"val_{score}"])


if __name__ == "__main__":
    run_script(main, ANY)
