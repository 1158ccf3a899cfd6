"""Stage `distill`: train one student with one row's method and one seed.

Usage: python -m stages.distill TASK METHOD SEED
"""

from pathlib import Path
from typing import Any

from stages import methods
from stages.curation.scores import standing_out
from stages.datasets.examples import INPUT, PREDICTED
from stages.engine import runtime as rt
from stages.engine.checkpoint import key, until_done
from stages.engine.loop import train, write_curve
from stages.engine.provenance import provenance
from stages.jobs.requirements import why_not
from stages.jobs.setup import able, data_of, files, open_probe, open_setting
from stages.methods.bases.method import Method
from stages.networks import weights
from stages.settings import params, paths
from stages.support.errors import UserError, run_script
from stages.support.files import replacing_folder, save_tensors, write_json


def main(name: str, row: str, seed_text: str) -> None:
    """Write the student's weights, card, learning curve and, where the method makes inputs, samples of them.

    Where the method cannot run on the task, write why instead of a student.
    """
    settings, seed = params.load(), _seed(seed_text)
    run, task = settings.run, settings.task(name)
    method_class, section = methods.method_class(settings, row), methods.section(settings, row, name)
    plan = methods.plan(settings, row, name, section)
    plan.agree(paths.plan(name, row))
    curve_file = paths.curve(name, row, seed)
    inputs = [
        paths.teacher(name) / weights.WEIGHTS,
        *files(task, name, method_class).values(),
    ]
    with (
        rt.running(task.precision or run.precision, run.compile) as runtime,
        until_done(key(f"{name} {row} {plan.identity}", seed, runtime, inputs), run, runtime.rank) as checkpoint,
    ):
        setting, blueprint = open_setting(name, task, method_class, seed, runtime)
        if reason := why_not(method_class, section, setting.kind.has, able(setting), data_of(task)):
            if runtime.rank == 0:
                print(f"{row} does not run on {name}: it {reason}")
                write_curve(curve_file, [{"step": 0, f"val_{setting.kind.headline}": float("nan")}])
                with replacing_folder(paths.student(name, row, seed)) as folder:
                    write_json(folder / paths.RUN, {"why_not": reason, "identity": {"distill": plan.identity}})
            return
        method: Method = method_class(setting, section)
        curve = train(method, runtime, seed, checkpoint, open_probe(name, task, setting), f"{row} {name} seed {seed}")
        if runtime.rank == 0:
            made: dict[str, Any] = {
                "identity": {"distill": plan.identity},
                "scale": run.scale,
                "upper_bound": methods.upper_bound(method_class),
                "schedule": method.schedule.beside(setting.schedule),
            }
            cost = {"steps": method.student.updates, **method.cost.totals()}
            found, space = method.findings()
            made |= {**provenance(runtime, checkpoint.seconds), "cost": cost, "findings": found}
            facts = {"made": f"distilled with {row}", "task": name, "seed": seed, **section.model_dump()}
            write_curve(curve_file, curve)
            with replacing_folder(paths.student(name, row, seed)) as folder:
                weights.save(folder, blueprint, setting.student, setting.kind.blank(1), facts)
                if space:
                    save_tensors(folder / "space.safetensors", space)
                rt.seed(seed)
                _save_samples(method, folder)
                write_json(folder / paths.RUN, made)


def _save_samples(method: Method, folder: Path) -> None:
    """What the method's inputs look like and what the teacher sees in them, for the report's figures."""
    kind, teacher = method.setting.kind, method.setting.teacher
    inputs = method.samples(kind.samples)
    if inputs is not None:
        predicted = standing_out(kind.summary(teacher.logits(inputs))["shares"])
        save_tensors(folder / "samples.safetensors", {INPUT: kind.stored(inputs), PREDICTED: predicted})


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"the seed is a whole number of 0 or more, not '{text}'")
    return int(text)


if __name__ == "__main__":
    run_script(main, "task", "method", "seed")
