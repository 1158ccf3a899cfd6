"""How teachers are trained: on the labels of in-domain images."""

from pathlib import Path

from torch import nn

from stages.datasets.examples import Examples
from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint
from stages.engine.loop import Row, train
from stages.engine.teacher import Teacher
from stages.families.method import IN_DOMAIN, Schedule, Setting
from stages.families.supervised import InDomain
from stages.kinds import Kind, Probe
from stages.networks import weights
from stages.networks.weights import Blueprint
from stages.settings.task import Train


def teach(
    network: str,
    recipe: Train,
    kind: Kind,
    examples: Examples,
    val: Examples,
    runtime: rt.Runtime,
    checkpoint: Checkpoint,
    where: str,
) -> tuple[Blueprint, nn.Module, list[Row]]:
    """Train `network` on labelled `examples`; returns what it is, itself, and its learning curve.

    `where` is the section of params.yaml that says so. Raises UserError where its weights to start from do not fit.
    """
    blueprint = kind.blueprint(network, examples, where)
    rt.seed(recipe.seed)
    net = blueprint.build()
    if start := recipe.start:
        weights.import_weights(net, Path(start.path), start.sha256, f"{where}.train.start", start.without, start.into)
    batch = min(recipe.batch, len(examples))
    steps = recipe.epochs * (len(examples) // batch)
    schedule = Schedule(
        steps, batch, batch, recipe.lr, recipe.weight_decay, recipe.augment, recipe.optimizer, recipe.rate, recipe.clip
    )
    nobody = Teacher(nn.Identity())  # cross-entropy on labels asks no teacher
    setting = Setting(kind, nobody, net, schedule, recipe.seed, runtime, {IN_DOMAIN: examples})
    method = InDomain(setting, InDomain.Params(focal=recipe.focal))
    curve = train(method, runtime, recipe.seed, checkpoint, Probe(kind, net, val, runtime.autocast), where.removeprefix("task."))
    return blueprint, net, curve
