"""From a task in params.yaml and the files of earlier stages to the setting that a method is given."""

import math
from dataclasses import replace
from pathlib import Path

from stages.datasets.examples import Examples
from stages.engine import runtime as rt
from stages.engine.teacher import ASKED, MAPS, STAGES, Teacher
from stages.kinds import Kind, Probe, open_kind
from stages.methods.bases.method import IN_DOMAIN, LABELS, POOL, Method, Schedule, Setting
from stages.networks import weights
from stages.networks.build import find
from stages.networks.importing import import_weights, tell
from stages.networks.weights import Blueprint
from stages.settings.paths import Places
from stages.settings.task import HELD_OUT, LABELLED, STUDENT_DOMAIN, Distill, Task
from stages.support.errors import UserError

LOGITS_KEPT = 2**26  # numbers; those of every pixel are soon more, and are of no use once images are augmented
Opened = tuple[Blueprint, Kind, Teacher]
DATA = {POOL, IN_DOMAIN, LABELS, STUDENT_DOMAIN}  # what a task may have


def keeps_logits(kind: Kind, count: int) -> bool:
    """Whether T's logits stand beside a pool of so many inputs; methods ask T again where they do not."""
    return math.prod((count, *kind.answer)) <= LOGITS_KEPT


def data_of(task: Task) -> set[str]:
    """The words for the data that `task` has: always a pool."""
    found = {
        LABELS: task.measured == LABELLED,
        IN_DOMAIN: task.measured != HELD_OUT,
        STUDENT_DOMAIN: task.student_domain is not None,
    }
    return {POOL, *(word for word, there in found.items() if there)}


def able(setting: Setting) -> frozenset[str]:
    """What a method may ask of teacher and student: stages of both, all else of the teacher."""
    named = any(getattr(module, "taps", ()) for module in setting.student.modules())
    return setting.teacher.can if named else setting.teacher.can - {STAGES, MAPS}


def files(places: Places, task: Task, method: type[Method]) -> dict[str, Path]:
    """Where the data lies that `method` sees."""
    found = {POOL: places.pool / "pool.safetensors", IN_DOMAIN: places.split("train")}
    if task.student_domain:
        found[STUDENT_DOMAIN] = places.student_domain("train")
    return {key: path for key, path in found.items() if key in method.sees}


def open_teacher(places: Places, task: Task, runtime: rt.Runtime) -> Opened:
    """The teacher of `task`, on its device, with the kind of task that it is for."""
    blueprint, net = weights.load(places.teacher)
    parts = net.parts if isinstance(net, Teacher) else [net]
    teacher = Teacher(*map(runtime.place, parts), name=blueprint.network)
    teacher.compiled = runtime.compile == "teacher"
    return blueprint, open_kind(task, blueprint.classes), teacher


class Given(dict[str, Examples]):
    """The data of a run; asks for others raise UserError."""

    def __missing__(self, key: str) -> Examples:
        raise UserError(f"the method asks for '{key}', which its `sees` does not name; name it there")


def open_setting(places: Places, task: Task, method: type[Method], seed: int, runtime: rt.Runtime) -> tuple[Setting, Blueprint]:
    """All that `method` is given, with an untrained student, and the student's blueprint. Seeds the generators."""
    opened, data = (
        open_teacher(places, task, runtime),
        {key: Examples.load(path) for key, path in files(places, task, method).items()},
    )
    return setting_of(places.task, task, method, opened, data, seed, runtime)


def setting_of(
    name: str, task: Task, method: type[Method], opened: Opened, data: dict[str, Examples], seed: int, runtime: rt.Runtime
) -> tuple[Setting, Blueprint]:
    """The same of the task called `name`, whose teacher is `opened` and whose `data` is read."""
    made_for, kind, teacher = opened
    given = task.distill.student
    student = replace(made_for, network=given.network, parts=(), model=None, interface=None)
    if student.text:
        file, match = find(given.network)
        own, model = getattr(file, "configured", None), student.text.get("model")
        student = replace(student, text={**student.text, "model": own(match, model) if own and model else None})
    if IN_DOMAIN in data and LABELS not in method.sees:
        data = {**data, IN_DOMAIN: data[IN_DOMAIN].unlabelled()}
    rt.seed(seed)
    net = student.build()
    key = f"task.{name}.distill.student"
    if given.weights:
        tell(import_weights(net, given.weights, f"{key}.weights"))
    if given.teacher_layers:
        if len(teacher.parts) > 1:
            raise UserError(f"{key}.teacher_layers: there are several teachers, and a student starts as one")
        weights.copy_layers(net, teacher.parts[0], given.teacher_layers, f"{key}.teacher_layers")
    for module in weights.modules(net, given.frozen, f"{key}.frozen"):
        module.requires_grad_(False)
    mean, std = made_for.mean or [], made_for.std or []
    return Setting(kind, teacher, net, schedule_of(task.distill), seed, runtime, Given(data), mean, std, made_for.known), student


def open_probe(places: Places, task: Task, setting: Setting) -> Probe:
    """What measures the student in training, on a validation split of the domain that it is for."""
    guide = setting.teacher if ASKED in setting.teacher.can or task.measured != LABELLED else None
    with setting.teacher.uncounted():
        return Probe(setting.kind, setting.student, Examples.load(places.validation(task)), setting.runtime.autocast, guide)


def schedule_of(distill: Distill) -> Schedule:
    """Turn the task's `distill` section into a schedule."""
    d = distill
    own = d.optimizer, d.rate, d.clip, d.augment_pool
    return Schedule(d.student_steps, d.batch, 2 * d.batch, d.lr, d.weight_decay, d.augment, *own)
