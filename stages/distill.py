"""Stage `distill`: train one student with one row's method and one seed.

Usage: python -m stages.distill TASK METHOD SEED
"""

from pathlib import Path
from typing import Any

from stages.curation.scores import standing_out
from stages.datasets.examples import INPUT, PREDICTED
from stages.engine import runtime as rt
from stages.engine.loop import Point, train, write_curve
from stages.engine.provenance import provenance
from stages.jobs.job import RowJob, open_row
from stages.jobs.requirements import why_not
from stages.jobs.setup import able, data_of, open_probe, open_setting
from stages.methods import upper_bound
from stages.methods.bases.method import Method
from stages.networks import weights
from stages.networks.weights import Blueprint
from stages.settings import paths
from stages.support.errors import run_script
from stages.support.files import replacing_folder, save_tensors, write_json


def main(name: str, row: str, seed: str) -> None:
    """Write the student's weights, card, learning curve and, where the method makes inputs, samples of them.

    Where the method cannot run on the task, write why instead of a student.
    """
    job = open_row(name, row, seed)
    job.plan.agree(job.places.plan(row))
    with job.training(row, job.seed, job.inputs) as (runtime, _, (checkpoint,)):
        setting, blueprint = open_setting(job.places, job.task, job.method, job.seed, runtime)
        if reason := why_not(job.method, job.section, setting.kind.has, able(setting), data_of(job.task)):
            if runtime.rank == 0:
                _write_why(job, reason, f"val_{setting.kind.headline}")
            return
        method, probe = job.method(setting, job.section), open_probe(job.places, job.task, setting)
        curve = train(method, runtime, job.seed, checkpoint, probe, f"{row} {name} seed {seed}")
        if runtime.rank == 0:
            _write(job, method, blueprint, curve, provenance(runtime, checkpoint.seconds))


def _write_why(job: RowJob, reason: str, score: str) -> None:
    print(f"{job.row} does not run on {job.name}: it {reason}")
    write_curve(job.places.curve(job.row, job.seed), [{"step": 0, score: float("nan")}])
    with replacing_folder(job.places.student(job.row, job.seed)) as folder:
        write_json(folder / paths.RUN, {"why_not": reason, "identity": {"distill": job.plan.identity}})


def _write(job: RowJob, method: Method, blueprint: Blueprint, curve: list[Point], origin: dict[str, Any]) -> None:
    setting, (found, space) = method.setting, method.findings()
    made = {
        "identity": {"distill": job.plan.identity},
        "scale": job.run.scale,
        "upper_bound": upper_bound(job.method),
        "schedule": method.schedule.beside(setting.schedule),
        **origin,
        "cost": {"steps": method.student.updates, **method.cost.totals()},
        "findings": found,
    }
    facts = {"made": f"distilled with {job.row}", "task": job.name, "seed": job.seed, **job.section.model_dump()}
    write_curve(job.places.curve(job.row, job.seed), curve)
    with replacing_folder(job.places.student(job.row, job.seed)) as folder:
        weights.save(folder, blueprint, setting.student, setting.kind.blank(1), facts)
        if space:
            save_tensors(folder / "space.safetensors", space)
        rt.seed(job.seed)
        _save_samples(method, folder)
        write_json(folder / paths.RUN, made)


def _save_samples(method: Method, folder: Path) -> None:
    """What the method's inputs look like and what the teacher sees in them, for the report's figures."""
    kind, teacher = method.setting.kind, method.setting.teacher
    inputs = method.samples(kind.samples)
    if inputs is not None:
        predicted = standing_out(kind.summary(teacher.logits(inputs))["shares"])
        save_tensors(folder / "samples.safetensors", {INPUT: kind.stored(inputs), PREDICTED: predicted})


if __name__ == "__main__":
    run_script(main, "task", "method", "seed")
