"""How teachers are trained: on the labels of in-domain images."""

from torch import nn

from stages.datasets.examples import Examples
from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint
from stages.engine.loop import Point, train
from stages.engine.teacher import Teacher
from stages.kinds import FOLDER, IMAGES, ONE_LABEL, Kind, Probe
from stages.methods.bases.method import IN_DOMAIN, Schedule, Setting
from stages.methods.bases.supervised import InDomain
from stages.networks.importing import import_weights, tell
from stages.networks.weights import Blueprint
from stages.settings.params import Params
from stages.settings.task import Teacher as Taught
from stages.settings.task import Train
from stages.support.errors import UserError, placed
from stages.support.plugins import plugin


def as_template(params: Params, name: str) -> tuple[Taught, Train]:
    """A task's teacher as a template of images, of which others are trained, and its recipe.

    Raises UserError for a task that has none.
    """
    task = params.task(name)
    has = plugin(FOLDER, task.kind, "Kind", "kind of task").has
    recipe = task.teacher.train if task.teacher else None
    if not (task.teacher and recipe and {IMAGES, ONE_LABEL} <= has and task.image and not task.image.crop):
        raise UserError(
            f"impress.tasks: '{name}' has not what this takes: whole images of one label each (no `image.crop`) "
            "and one teacher that is trained here"
        )
    if recipe.seed in params.impress.seeds:
        raise UserError(f"impress.templates: 'seed_{recipe.seed}' is the teacher of '{name}' itself; take another seed")
    return task.teacher, recipe


def lesson(
    taught: Taught, kind: Kind, examples: Examples, runtime: rt.Runtime, where: str
) -> tuple[Blueprint, nn.Module, InDomain]:
    """What a teacher's network is, itself, untrained, and what trains it on labelled `examples`, as `taught` says.

    `where` is the section of params.yaml that says so. Raises UserError where its weights to start from do not fit.
    """
    recipe = taught.train
    assert recipe is not None
    blueprint = kind.blueprint(taught.network, examples)
    rt.seed(recipe.seed)
    net = blueprint.build()
    if start := recipe.start:
        tell(import_weights(net, start, f"{where}.train.start"))
    batch = min(recipe.batch, len(examples))
    if batch < recipe.batch:
        said = f"{where}.train: there are {len(examples)} examples; a batch has as many, not {recipe.batch}"
        print(placed(said), flush=True)
    steps = recipe.epochs * (len(examples) // batch)
    schedule = Schedule(
        steps, batch, batch, recipe.lr, recipe.weight_decay, recipe.augment, recipe.optimizer, recipe.rate, recipe.clip
    )
    nobody = Teacher(nn.Identity())  # cross-entropy on labels asks no teacher
    setting = Setting(kind, nobody, net, schedule, recipe.seed, runtime, {IN_DOMAIN: examples})
    return blueprint, net, InDomain(setting, InDomain.Params(focal=recipe.focal))


def teach(
    taught: Taught,
    kind: Kind,
    examples: Examples,
    val: Examples,
    runtime: rt.Runtime,
    checkpoint: Checkpoint,
    where: str,
) -> tuple[Blueprint, nn.Module, list[Point]]:
    """Give the lesson; returns what the network is, itself, and its learning curve."""
    blueprint, net, method = lesson(taught, kind, examples, runtime, where)
    probe = Probe(kind, net, val, runtime.autocast)
    return blueprint, net, train(method, runtime, method.setting.seed, checkpoint, probe, where.removeprefix("task."))
