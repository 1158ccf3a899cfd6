"""Stage `train_templates`: train networks like a task's teacher with other seeds, to judge by them what the teacher remembers.

Usage: python -m stages.train_templates TASK
"""

from stages.datasets.examples import Examples
from stages.jobs.job import open_job
from stages.jobs.teaching import as_template, teach
from stages.kinds import open_kind
from stages.networks import weights
from stages.support.errors import run_script
from stages.support.files import replacing_folder


def main(name: str) -> None:
    """Write weights and card of each; one that was interrupted goes on from where it was saved."""
    job = open_job("train_templates", name)
    places, seeds = job.places, job.params.impress.seeds
    taught, recipe = as_template(job.params, name)
    source = places.split("train")
    train, val = Examples.load(source), Examples.load(places.split("val"))
    kind = open_kind(job.task, val.classes)
    with job.training("templates", 0, [source], seeds) as (runtime, _, checkpoints):
        for seed, checkpoint in zip(seeds, checkpoints, strict=True):
            mine = taught.model_copy(update={"train": recipe.model_copy(update={"seed": seed})})
            blueprint, net, curve = teach(mine, kind, train, val, runtime, checkpoint, f"task.{name}.seed_{seed}")
            if runtime.rank == 0:
                facts = {"made": "trained by stages/train_templates.py", **recipe.model_dump(), "seed": seed, **curve[-1]}
                with replacing_folder(places.template(seed)) as folder:
                    weights.save(folder, blueprint, net, kind.blank(1), facts)
                print(f"seed_{seed} of {name}: {curve[-1][f'val_{kind.headline}']:.2f} % on the validation split")


if __name__ == "__main__":
    run_script(main, "task")
