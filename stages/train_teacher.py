"""Stage `train_teacher`: train a task's teacher, or import the user's and check it.

Usage: python -m stages.train_teacher TASK
"""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.datasets.examples import LABEL, Examples
from stages.datasets.stamps import notice_changes
from stages.engine import runtime as rt
from stages.engine.checkpoint import Checkpoint
from stages.engine.loop import Point, write_curve
from stages.engine.provenance import provenance
from stages.engine.teacher import Teacher
from stages.jobs import import_report
from stages.jobs.imported import as_logits, imported, same_answer
from stages.jobs.job import open_job
from stages.jobs.teaching import teach
from stages.kinds import Kind, Probe, answered, open_kind
from stages.networks import weights
from stages.networks.answers import stored
from stages.networks.weights import Blueprint
from stages.settings import paths
from stages.settings.params import TEACHER
from stages.settings.paths import Places
from stages.settings.task import LABELLED, PartTeacher, Task
from stages.settings.task import Teacher as Taught
from stages.support.errors import UserError, about, placed, run_script
from stages.support.files import read_json, replacing, replacing_folder, sha256, weights_in, write_json

SEED = 0  # a task has one teacher, whatever seed its `train` has; the others are for students
Made = tuple[Blueprint, nn.Module, list[Point], dict[str, Any]]


def main(name: str) -> None:
    """Write the teacher's weights, card, learning curve, and where it was made."""
    job = open_job("train_teacher", name)
    task, places = job.task, job.places
    notice_changes(places.sources, name)
    val, source = Examples.load(places.split("val")), places.split("train")
    with job.training("teacher", SEED, [source], range(len(task.parts))) as (runtime, made_by, checkpoints):
        if other := _same(places, made_by):
            if runtime.rank == 0:
                print(f"the teacher of {other.task} is the same: the same data, code and parameters; it is copied")
                _copy(other, places)
            return
        train, kind = Examples.load(source), open_kind(task, val.classes)
        parts = [_part(name, task, place, train, val, runtime, one) for place, one in enumerate(checkpoints)]
        blueprint, net, curve, facts = parts[0] if task.teacher else _united(name, kind, parts, train, val, runtime)
        if runtime.rank == 0:
            made = {
                "identity": {"train_teacher": job.plan.identity},
                "key": made_by,
                "scale": job.run.scale,
                **provenance(runtime, sum(one.seconds for one in checkpoints)),
            }
            write_curve(places.curve(TEACHER, SEED), curve)
            with replacing_folder(places.teacher) as folder:
                weights.save(folder, blueprint, net, kind.blank(1), facts)
                write_json(folder / paths.RUN, made)
            if task.measured == LABELLED and (score := facts[f"val_{kind.headline}"]) is not None:
                print(f"teacher of {name}: {score:.2f} % on the validation split")


def _part(name: str, task: Task, place: int, train: Examples, val: Examples, runtime: rt.Runtime, checkpoint: Checkpoint) -> Made:
    """The teacher, or one of several on its own classes."""
    part, where = task.parts[place], f"task.{name}.teacher"
    if isinstance(part, PartTeacher):
        where, names = f"task.{name}.teachers.{place}", part.names()
        train, val = (one.of(names) if LABEL in one.columns else replace(one, classes=names) for one in (train, val))
    kind = open_kind(task, train.classes)
    if part.weights:
        blueprint, net, curve, facts = _imported(part, kind, val, runtime, where)
    else:
        blueprint, net, curve = teach(part, kind, train, val, runtime, checkpoint, where)
        facts = {"made": "trained by stages/train_teacher.py", **(part.train.model_dump() if part.train else {})}
    found = curve[-1][score := f"val_{kind.headline}"]
    return blueprint, net, curve, facts | {score: None if math.isnan(found) else found}


def _united(name: str, kind: Kind, parts: list[Made], train: Examples, val: Examples, runtime: rt.Runtime) -> Made:
    """Several teachers as one, whose curves follow one another; students normalise images by the statistics of all."""
    blueprints, nets, curves, facts = zip(*parts, strict=True)
    networks = " + ".join(blueprint.network for blueprint in blueprints)
    whole = kind.blueprint(networks, train if len(train) else val)
    curve, steps = list[Point](), 0.0
    for one in curves:
        curve += [row | {"step": steps + row["step"]} for row in one]
        steps = curve[-1]["step"]
    net = Teacher(*nets)
    measured = Probe(kind, net, val, runtime.autocast, None if LABEL in val.columns else net)()
    return replace(whole, parts=blueprints), net, curve, {"made": [one["made"] for one in facts], **measured}


def _same(places: Places, made_by: str) -> Places | None:
    """Another task's places, whose teacher was made of the same things, and so is the same to the last bit."""
    for path in sorted(places.teacher.parent.glob(f"*/{paths.RUN}")):
        other = path.parent.name
        if other != places.task and not other.startswith(".") and read_json(path).get("key") == made_by:
            return Places(other)
    return None


def _copy(other: Places, places: Places) -> None:
    """The teacher of another task."""
    with replacing(places.curve(TEACHER, SEED)) as temporary:
        shutil.copyfile(other.curve(TEACHER, SEED), temporary)
    with replacing_folder(places.teacher) as folder:
        shutil.copytree(other.teacher, folder, dirs_exist_ok=True)


def _imported(part: Taught, kind: Kind, val: Examples, runtime: rt.Runtime, where: str) -> Made:
    """The user's teacher, tried on the validation split; raises UserError for one that only guesses there.

    Without labels nothing says whether it does.
    """
    given, score = part.weights, f"val_{kind.headline}"
    assert given is not None
    blueprint, net, notes = imported(part, kind, val, where)
    origin = {"made": f"imported from {given.path}", "sha256": sha256(weights_in(Path(given.path)))}
    if LABEL not in val.columns:
        with about(where):
            val = answered(kind, net, val)
    logits = kind.answers(runtime.place(net.eval()), val)
    if stored(net) is None:
        with about(where):
            blueprint, read, more = as_logits(part, blueprint, net, logits, 1 + len(kind.answer))
            same_answer(net, kind.plain(val.subset(torch.arange(min(len(val), 8))).all_inputs()).to(runtime.device))
        if read is not net:
            net = runtime.place(read.eval())
            logits = kind.answers(net, val)
        notes += more
    else:  # it was asked of some images alone
        known = (~logits.isnan().any(1)).nonzero().flatten()
        val, logits = val.subset(known), logits[known]
        notes.append(f"{len(known)} of them are validation images, by which it is judged")
    if not len(val) or LABEL not in val.columns:
        _tell(where, notes)
        return blueprint, net, [{"step": 0, score: 100.0 if len(val) else math.nan}], origin | {"import": {"notes": notes}}
    facts, lines = import_report.report(kind, blueprint, net, val, logits)
    found, (sense, guess) = kind.measure(logits, val), kind.sense(logits, val)
    if part.accuracy is not None:
        lines += import_report.below(part.accuracy, found, len(val))
    _tell(where, [*notes, *lines])
    if sense <= guess:
        raise UserError(
            f"{where}: the imported teacher has {sense:.1f} % on the validation split, no better than guessing "
            f"({guess:.1f} %); check that its classes are in the order {', '.join(val.classes[:4])}, ... and its mean and std"
        )
    return blueprint, net, [{"step": 0, score: found}], origin | {"import": {"notes": notes, **facts}}


def _tell(where: str, lines: list[str]) -> None:
    for line in lines:
        print(placed(f"{where}: {line}"), flush=True)


if __name__ == "__main__":
    run_script(main, "task")
