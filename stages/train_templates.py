"""Stage `train_templates`: train networks like a task's teacher with other seeds, to judge by them what the teacher remembers.

Usage: python -m stages.train_templates TASK
"""

from contextlib import ExitStack

from stages.datasets.examples import Examples
from stages.engine import runtime as rt
from stages.engine.checkpoint import key, until_done
from stages.jobs.teaching import as_template, teach
from stages.kinds import open_kind
from stages.networks import weights
from stages.settings import params, paths, plans
from stages.support.errors import run_script
from stages.support.files import replacing_folder


def main(name: str) -> None:
    """Write weights and card of each; one that was interrupted goes on from where it was saved."""
    settings = params.load()
    run, task = settings.run, settings.task(name)
    network, recipe = as_template(settings, name)
    plan = plans.of_stage(settings, "train_templates", name)
    plan.agree(paths.plan(name, "train_templates"))
    source = paths.split(name, "train")
    train, val = Examples.load(source), Examples.load(paths.split(name, "val"))
    kind = open_kind(task, val.classes)
    with rt.running(task.precision or run.precision, run.compile) as runtime, ExitStack() as stack:
        called = f"{name}-templates-{key(plan.identity, 0, runtime, [source])}"
        checkpoints = [stack.enter_context(until_done(f"{called}-{seed}", run, runtime.rank)) for seed in settings.impress.seeds]
        for seed, checkpoint in zip(settings.impress.seeds, checkpoints, strict=True):
            mine, where = recipe.model_copy(update={"seed": seed}), f"task.{name}.seed_{seed}"
            blueprint, net, curve = teach(network, mine, kind, train, val, runtime, checkpoint, where)
            if runtime.rank == 0:
                facts = {"made": "trained by stages/train_templates.py", **mine.model_dump(), **curve[-1]}
                with replacing_folder(paths.template(name, seed)) as folder:
                    weights.save(folder, blueprint, net, kind.blank(1), facts)
                print(f"seed_{seed} of {name}: {curve[-1][f'val_{kind.headline}']:.2f} % on the validation split")


if __name__ == "__main__":
    run_script(main, "task")
