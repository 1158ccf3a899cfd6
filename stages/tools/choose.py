"""Which student to ship: run a few rows that the teacher allows, compare them, and say which to export and why.

With labelled images the validation split compares them; without, images fitted to what the teacher remembers of its domain
(docs/judging.md). The rows run in full, with DVC, as `dvc exp run` would; what is made already is not made again.
Usage: python -m stages.tools.choose TASK [ROW,ROW,...]
"""

import argparse
import csv
import sys
from collections.abc import Sequence

from stages.engine.runtime import start
from stages.engine.teacher import Teacher
from stages.jobs.fitted import SCORE, ranked
from stages.jobs.requirements import why_not
from stages.jobs.setup import data_of, open_teacher
from stages.kinds import Kind
from stages.methods import method_class, section
from stages.reporting.figures.panels import titled
from stages.settings import params
from stages.settings.params import Params
from stages.settings.paths import RUN, Places
from stages.settings.task import LABELLED
from stages.support.errors import ANY, UserError, run_script
from stages.support.files import read_json
from stages.support.processes import call

# From what has most often been best to what is asked of no more than answers; the first few that the teacher allows are run.
CANDIDATES = ("tessera", "fast", "kd_ood_strong", "mosaickd", "zskt", "tessera_black_box", "kd_ood", "asdfd")
ROWS, CLOSE = 3, 1.0  # rows that are run, and points within which two are not told apart
GUESS = (
    "look here: the teacher has no batch normalisation, so students were compared on the pool alone, which misleads "
    "(docs/judging.md); label fifty images and name them under `in_domain`"
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
    _run(task, names, "overview")
    print("\n".join(verdict(task, names, kind, teacher)))


def verdict(task: str, rows: Sequence[str], kind: Kind, teacher: Teacher) -> list[str]:
    """Lines that compare what was made of `rows`, the best first, and say what to ship. Raises UserError where none ran."""
    places, labelled = Places(task), kind.measured == LABELLED
    score = f"val_{kind.headline}" if labelled else ranked(kind, teacher)
    found = {row: value for row in rows if (value := _score(places, row, score, labelled)) is not None}
    if not found:
        raise UserError(f"none of {', '.join(rows)} runs on {task}; its table says why")
    best, *others = sorted(found, key=lambda row: -found[row])
    lines = [f"{task}, {kind.held}: {titled(score)}" + ("" if labelled else ", which is no accuracy")]
    for row in (best, *others):
        lines.append(f"  {row}: {found[row]:.1f}, {read_json(places.student(row, 0) / RUN)['seconds'] / 60:.1f} minutes")
    if near := [row for row in others if found[best] - found[row] < CLOSE]:
        lines.append(f"{best} is not told apart from {', '.join(near)}, by one seed; take any of them")
    if not labelled and score != SCORE:
        lines.append(GUESS)
    return [*lines, f"to ship {best}: dvc exp run -S 'export.tasks=[{task}]' -S 'export.methods=[{best}]' overview export"]


def allowed(settings: Params, task: str, kind: frozenset[str], can: frozenset[str]) -> list[str]:
    """The first rows of CANDIDATES that run on a task of that kind, with a teacher that can so much."""
    data = data_of(settings.task(task))
    named = ((row, method_class(settings, row), section(settings, row, task)) for row in CANDIDATES)
    return [row for row, method, values in named if why_not(method, values, kind, can, data) is None][:ROWS]


def _run(task: str, rows: Sequence[str], target: str) -> None:
    """Bring `target` up to date for one task, these rows and one seed; params.yaml says so from then on."""
    chosen = (f"run.tasks=[{task}]", f"run.methods=[{','.join(rows)}]", "run.seeds=[0]")
    status = call(sys.executable, "-m", "dvc", "exp", "run", *(word for one in chosen for word in ("-S", one)), target)
    if status:
        raise UserError(f"`dvc exp run {target}` failed with {status}; mend what it says above and start again")


def _score(places: Places, row: str, score: str, labelled: bool) -> float | None:
    """What compares a row's student: the last point of its curve, or what `evaluate` found; None where it did not run."""
    if "why_not" in read_json(places.student(row, 0) / RUN):
        return None
    if not labelled:
        return float(read_json(places.scores(row, 0) / "metrics.json")[score])
    with places.curve(row, 0).open(newline="") as file:
        return float(list(csv.DictReader(file))[-1][score])


if __name__ == "__main__":
    run_script(main, ANY)
