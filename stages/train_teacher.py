"""Stage `train_teacher`: train a task's teacher, or import the user's and check it.

Usage: python -m stages.train_teacher TASK
"""

import shutil
from pathlib import Path
from typing import Any

from torch import nn

from stages.datasets.examples import Examples
from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint, key, until_done
from stages.engine.loop import Row, train, write_curve
from stages.engine.provenance import provenance
from stages.engine.teacher import Teacher
from stages.families.method import IN_DOMAIN, Schedule, Setting
from stages.kinds import Probe, open_kind
from stages.methods.supervised import Method
from stages.networks import weights
from stages.networks.weights import Blueprint
from stages.settings import params, paths, plans
from stages.settings.params import TEACHER
from stages.settings.task import Task
from stages.support.errors import UserError, run_script
from stages.support.files import read_json, replacing, write_json

SEED = 0  # the teacher is one fixed network; seeds are for students
Made = tuple[Blueprint, nn.Module, list[Row], dict[str, Any]]


def main(name: str) -> None:
    """Write the teacher's weights, card, learning curve, and where it was made."""
    settings = params.load()
    run, task = settings.run, settings.task(name)
    plan = plans.of_stage(settings, "train_teacher", name)
    plan.agree(paths.plan(name, "train_teacher"))
    val, source = Examples.load(paths.split(name, "val")), paths.split(name, "train")
    with (
        rt.running(task.precision or run.precision, run.compile) as runtime,
        until_done(f"{name}-{(made_by := key(plan.identity, SEED, runtime, [source]))}", run, runtime.rank) as checkpoint,
    ):
        if other := _same(name, made_by):
            if runtime.rank == 0:
                print(f"the teacher of {other} is the same: the same data, code and parameters; it is copied")
                _copy(other, name)
            return
        if runtime.rank == 0:
            (paths.teacher(name) / paths.RUN).unlink(missing_ok=True)
        if task.teacher.weights:
            blueprint, net, curve, facts = _imported(name, task, val, runtime)
        else:
            blueprint, net, curve, facts = _trained(name, task, Examples.load(source), val, runtime, checkpoint)
        if runtime.rank == 0:
            kind = open_kind(task, val.classes)
            score = f"val_{kind.headline}"
            weights.save(paths.teacher(name), blueprint, net, kind.blank(1), facts | {score: curve[-1][score]})
            made = {
                "identity": {"train_teacher": plan.identity},
                "key": made_by,
                "scale": run.scale,
                **provenance(runtime, checkpoint.seconds),
            }
            write_curve(paths.curve(name, TEACHER, SEED), curve)
            write_json(paths.teacher(name) / paths.RUN, made)
            print(f"teacher of {name}: {curve[-1][score]:.2f} % on the validation split")


def _same(name: str, made_by: str) -> str | None:
    """Another task whose teacher was made of the same things, and so is the same to the last bit."""
    for path in sorted(paths.teacher(name).parent.glob(f"*/{paths.RUN}")):
        if (other := path.parent.name) != name and read_json(path).get("key") == made_by:
            return other
    return None


def _copy(other: str, name: str) -> None:
    """The teacher of another task, its run.json last."""
    (paths.teacher(name) / paths.RUN).unlink(missing_ok=True)
    pairs = [(paths.teacher(other) / file, paths.teacher(name) / file) for file in (weights.WEIGHTS, weights.CARD, paths.RUN)]
    for source, target in [(paths.curve(other, TEACHER, SEED), paths.curve(name, TEACHER, SEED)), *pairs]:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)


def _trained(name: str, task: Task, examples: Examples, val: Examples, runtime: rt.Runtime, checkpoint: Checkpoint) -> Made:
    recipe = task.teacher.train
    assert recipe is not None
    kind = open_kind(task, examples.classes)
    blueprint = kind.blueprint(task.teacher.network, examples, f"task.{name}.teacher")
    rt.seed(SEED)
    net = blueprint.build()
    if recipe.start:
        start, key_of = recipe.start, f"task.{name}.teacher.train.start"
        weights.import_weights(net, Path(start.path), start.sha256, key_of, start.without, start.into)
    batch = min(recipe.batch, len(examples))
    steps = recipe.epochs * (len(examples) // batch)
    schedule = Schedule(
        steps, batch, batch, recipe.lr, recipe.weight_decay, recipe.augment, recipe.optimizer, recipe.rate, recipe.clip
    )
    nobody = Teacher(nn.Identity())  # cross-entropy on labels asks no teacher
    setting = Setting(kind, nobody, net, schedule, SEED, runtime, {IN_DOMAIN: examples})
    method = Method(setting, Method.Params(focal=recipe.focal))
    curve = train(method, runtime, SEED, checkpoint, Probe(kind, net, val, runtime.autocast), f"teacher {name}")
    return blueprint, net, curve, {"made": "trained by stages/train_teacher.py", **recipe.model_dump()}


def _imported(name: str, task: Task, val: Examples, runtime: rt.Runtime) -> Made:
    given = task.teacher.weights
    assert given is not None
    kind, key_of = open_kind(task, val.classes), f"task.{name}.teacher.weights"
    blueprint = kind.blueprint(task.teacher.network, val, key_of, given)
    net = blueprint.build()
    weights.import_weights(net, Path(given.path), given.sha256, key_of, given.without)
    measured, guess = Probe(kind, runtime.place(net), val, runtime.autocast)(), kind.guess(val)
    if (score := measured[f"val_{kind.headline}"]) <= guess:
        raise UserError(
            f"the imported teacher has {score:.1f} % on the validation split, no better than guessing "
            f"({guess:.1f} %); check that its classes are in the order {', '.join(val.classes[:4])}, ... and its mean and std"
        )
    return blueprint, net, [{"step": 0, **measured}], {"made": f"imported from {given.path}", "sha256": given.sha256}


if __name__ == "__main__":
    run_script(main, "task")
