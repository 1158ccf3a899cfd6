"""Stage `train_teacher`: train a task's teacher, or import the user's and check it.

Usage: python -m stages.train_teacher TASK
"""

from typing import Any

import torch
from torch import nn

from stages import models, params, paths
from stages.datasets import ImageSet
from stages.datasets.images import channel_statistics
from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint, fingerprint, until_done
from stages.engine.loop import Row, train, write_curve
from stages.engine.players import Teacher
from stages.errors import UserError, run_script
from stages.kinds.classification import Probe, percent
from stages.methods import Schedule, Setting, supervised
from stages.networks import Normalized
from stages.params import Task

SEED = 0  # the teacher is one fixed network; seeds are for students
Made = tuple[models.Blueprint, Normalized, list[Row], dict[str, Any]]


def main(name: str) -> None:
    """Write the teacher's weights, card and learning curve."""
    settings = params.load()
    run, task = settings.run, settings.task(name)
    val = ImageSet.load(paths.split(name, "val"))
    source = paths.split(name, "train")
    key = fingerprint("teacher", name, task.teacher, run.precision, files=[source])
    with rt.running(run.precision, run.compile) as runtime, until_done(key, run, runtime.rank) as checkpoint:
        if task.teacher.weights:
            blueprint, net, curve, facts = _imported(name, task, val, runtime)
        else:
            blueprint, net, curve, facts = _trained(name, task, ImageSet.load(source), val, runtime, checkpoint)
        if runtime.rank == 0:
            models.save(paths.teacher(name), blueprint, net, facts | {"val_top1": curve[-1]["val_top1"]})
            write_curve(paths.curve(name, "teacher", SEED), curve)
            print(f"teacher of {name}: {curve[-1]['val_top1']:.2f} % on the validation split")


def _trained(name: str, task: Task, images: ImageSet, val: ImageSet, runtime: rt.Runtime, checkpoint: Checkpoint) -> Made:
    recipe = task.teacher.train
    assert recipe is not None
    mean, std = channel_statistics(images)
    blueprint = models.Blueprint(
        task.teacher.network, images.classes, images.channels, images.size, mean.tolist(), std.clamp(min=1e-3).tolist()
    )
    rt.seed(SEED)
    net = blueprint.build()
    batch = min(recipe.batch, len(images))
    schedule = Schedule(recipe.epochs * (len(images) // batch), batch, recipe.lr, recipe.weight_decay, recipe.augment)
    nobody = Teacher(nn.Identity())  # cross-entropy on labels asks no teacher
    method = supervised.Method(
        Setting(nobody, net, schedule, SEED, runtime, blueprint.mean, blueprint.std, in_domain=images), supervised.Method.Params()
    )
    curve = train(method, runtime, SEED, checkpoint, Probe(net, val, runtime), f"teacher {name}")
    return blueprint, net, curve, {"made": "trained by stages/train_teacher.py", **recipe.model_dump()}


def _imported(name: str, task: Task, val: ImageSet, runtime: rt.Runtime) -> Made:
    weights = task.teacher.weights
    assert weights is not None
    if not len(weights.mean) == len(weights.std) == val.channels:
        raise UserError(f"params.yaml: task.{name}.teacher.weights: mean and std need {val.channels} values, one a channel")
    blueprint = models.Blueprint(task.teacher.network, val.classes, val.channels, val.size, weights.mean, weights.std)
    net = blueprint.build()
    models.import_weights(net, weights)
    measured = Probe(runtime.place(net), val, runtime)()
    guess = percent(val.labels == torch.bincount(val.labels).argmax())
    if measured["val_top1"] <= guess:
        raise UserError(
            f"the imported teacher has {measured['val_top1']:.1f} % on the validation split, no better than guessing "
            f"({guess:.1f} %); check that its classes are in the order {', '.join(val.classes[:4])}, ... and its mean and std"
        )
    return blueprint, net, [{"step": 0, **measured}], {"made": f"imported from {weights.path}", "sha256": weights.sha256}


if __name__ == "__main__":
    run_script(main, "task")
