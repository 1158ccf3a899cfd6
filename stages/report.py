"""Stage `report`: add the runs of one task to what is known of its rows, and draw its figures.

Rows that did not run this time stay as they are; `overview` says which of them were made by other code.
Usage: python -m stages.report TASK
"""

from typing import Any

from stages import methods
from stages.datasets.examples import Examples
from stages.engine.teacher import Teacher
from stages.jobs.inverted import compared_by
from stages.jobs.job import open_job
from stages.jobs.setup import open_teacher
from stages.kinds import Kind, aspect
from stages.reporting import figures, records
from stages.reporting.pool_distance import pool_distance
from stages.settings import plans
from stages.settings.params import TEACHER, Params
from stages.settings.paths import Places
from stages.settings.task import HELD_OUT, STUDENT_DOMAIN, Task
from stages.support.errors import UserError, run_script
from stages.support.files import read_json, write_json

GROUPS = ("learns from examples as they are", "makes examples, with a pool", "makes examples, without a pool")
GIVEN, WITH_POOL, WITHOUT = GROUPS


def main(name: str) -> None:
    """Write results/tasks/TASK.json, every seed's scores and origin, and the task's figures.

    A run of smoke scale writes its own file, results/smoke/tasks/TASK.json, and leaves the other as it is.
    """
    job = open_job("report", name)
    settings, task, places, scale = job.params, job.task, job.places, job.run.scale
    earlier = records.load(name, scale)
    rows = collect(settings, places, plans.around(settings, name))
    _, kind, teacher = open_teacher(places, task, job.measuring())
    score = compared_by(kind, teacher)
    if gone := earlier["headline"] not in ("", score):
        print(f"{name}: earlier rows were compared by {earlier['headline']}, not by {score}; they are left out")
    groups = {row: _group(settings, row, known) for row, known in rows.items() if row != TEACHER}
    groups = dict(sorted(groups.items(), key=lambda pair: GROUPS.index(pair[1])))
    figures.draw_all(places, kind, teacher, aspect(task.kind, "figures"), rows, groups, score)
    facts = {"kind": task.kind, "headline": score, "distill": _distill(task)}
    if task.measured != HELD_OUT:
        facts["pool"] = _pool(places, kind, teacher)
    before = {} if gone else earlier["rows"]
    merged = records.merged(before, rows)
    for row, known in before.items():
        if left := known.get("seeds", {}).keys() - merged[row].get("seeds", {}).keys():
            print(f"{name}: {row} leaves out seed {', '.join(sorted(left))}, made by other parameters, code or teacher")
    write_json(places.report(scale), facts | {"rows": merged})
    if not places.report().exists():
        write_json(places.report(), {"kind": task.kind, "headline": score, "rows": {}})  # DVC wants it there


def collect(settings: Params, places: Places, around: dict[str, str]) -> records.Rows:
    """What `evaluate` wrote of every run of a task, by row and seed; or why a row does not run.

    A run knows the identity of its own training, and the teacher of its. Those of the other stages `around` it are what they are
    now: had one of them changed and with it what it wrote, `dvc repro` would have made the run anew.
    """
    rows: records.Rows = {}
    for row, seed in settings.run.runs:
        path = places.scores(row, seed) / "metrics.json"
        if not path.exists():
            raise UserError(f"{path} is missing; `dvc repro` builds it")
        found = read_json(path)
        made = found.pop("made")
        if row == TEACHER:
            around = {**around, **made["identity"]}
        apart = ("curate",) if row == TEACHER else ()
        made["identity"] |= {stage: identity for stage, identity in around.items() if stage not in apart}
        of = {"of": section} if row != TEACHER and (section := settings.rows[row]) else {}
        if "why_not" in made:
            rows[row] = {**of, "why_not": made["why_not"], "made": made}
            continue
        for scores in (found, found.get(STUDENT_DOMAIN, {})):
            scores.pop("per_class", None)
        known = rows.setdefault(row, {**of, "upper_bound": made.pop("upper_bound", False), "seeds": {}})
        known["seeds"][str(seed)] = {**found, "made": made}
    return rows


def _group(settings: Params, row: str, known: dict[str, Any]) -> str:
    """How a row comes by what its student learns from."""
    if not methods.method_class(settings, row).sees:
        return WITHOUT
    return WITH_POOL if any(found["images"] for found in known.get("seeds", {}).values()) else GIVEN


def _distill(task: Task) -> dict[str, Any]:
    """What all students of the task have in common."""
    return task.distill.model_dump(mode="json", exclude_defaults=True)


def _pool(places: Places, kind: Kind, teacher: Teacher) -> dict[str, float]:
    """How far the pool is from the teacher's training images: for comparison only, a user has not these."""
    pool = Examples.load(places.pool / "pool.safetensors")
    return pool_distance(teacher, kind, pool, Examples.load(places.split("train")))


if __name__ == "__main__":
    run_script(main, "task")
