"""What a student or a teacher will take, before it runs: some of its iterations, timed and counted on this machine.

Data and a teacher that are there are taken; before that, random images and an untrained network of the same form.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from stages.datasets.examples import CONFIDENCE, LOGITS, PREDICTED, Examples, pack
from stages.engine import runtime as rt
from stages.engine.teacher import Teacher
from stages.jobs.job import Job, open_row
from stages.jobs.requirements import why_not
from stages.jobs.setup import Opened, able, data_of, files, keeps_logits, open_probe, open_teacher, setting_of
from stages.jobs.size import CLASSES
from stages.jobs.teaching import lesson
from stages.kinds import IMAGES, Kind, Probe, open_kind
from stages.methods.bases.method import POOL, Method
from stages.methods.bases.phased import Phased
from stages.settings import paths, plans
from stages.settings.params import Params
from stages.settings.paths import Places
from stages.settings.task import PartTeacher
from stages.support.errors import UserError

RANDOM, BYTES, FEW = 4096, 2**28, 16  # random images, but no more bytes than that; and where a few do
SECONDS, LEAST, MOST = 3.0, 3, 30  # the iterations of each phase are timed for so long; at least and at most so many
COUNTED = 1  # of them: the first of a phase may do more than others
POINTS = 20  # of a learning curve


class Estimate(NamedTuple):
    """Of one training: seconds here, images through T, floating-point operations, and operations on tensors that are called."""

    seconds: float = 0.0
    forwards: float = 0.0
    backwards: float = 0.0
    operations: float = 0.0
    calls: float = 0.0

    def and_then(self, other: "Estimate", times: float = 1) -> "Estimate":
        """This, then `times` the other."""
        return Estimate(*(mine + times * theirs for mine, theirs in zip(self, other, strict=True)))


def student(params: Params, name: str, row: str, few: bool = False) -> Estimate | str:
    """One student of the task called `name`, or why the row does not run there.

    With `few`, from random images and networks whatever there is, and a few at a time: about the same, in a second or two.
    """
    job = open_row(name, row, "0", params)
    begun = time.perf_counter()
    with job.running() as runtime:
        opened = _guide(job, runtime, few)
        data = {key: _data(job, key, path, opened[1], few) for key, path in files(job.places, job.task, job.method).items()}
        setting, _ = setting_of(name, job.task, job.method, opened, data, job.seed, runtime)
        if reason := why_not(job.method, job.section, setting.kind.has, able(setting), data_of(job.task)):
            return reason
        real = setting.schedule.real
        if few:
            setting = replace(setting, schedule=replace(setting.schedule, batch=FEW // 2, real=FEW))
        method = job.method(setting, job.section)
        known = job.places.validation(job.task).exists() and not few
        probe = open_probe(job.places, job.task, setting) if known else dict
        opening = Estimate(time.perf_counter() - begun)
        return opening.and_then(training(method, runtime, probe), real / FEW if few else 1)


def teacher(params: Params, name: str) -> Estimate | None:
    """The teacher of a task, or all of several, trained here; None where the number of its images is not known yet."""
    places, task = Places(name), params.task(name)
    job, total = Job(params, task, places, plans.of_stage(params, "train_teacher", name)), Estimate()
    if not places.split("val").exists():
        return None if any(part.train for part in task.parts) else total
    train, val = (Examples.load(places.split(split)) for split in ("train", "val"))
    with job.running() as runtime:
        for place, part in enumerate(task.parts):
            if part.train:
                mine, seen = (one.of(part.names()) if isinstance(part, PartTeacher) else one for one in (train, val))
                where = f"task.{name}.teacher" + ("" if task.teacher else f"s.{place}")
                _, net, method = lesson(part, kind := open_kind(task, mine.classes), mine, runtime, where)
                total = total.and_then(training(method, runtime, Probe(kind, net, seen, runtime.autocast)))
    return total


def _guide(job: Job, runtime: rt.Runtime, anew: bool) -> Opened:
    """The task's teacher, or one of its form that knows nothing. Raises UserError where only its files say what that is."""
    task, places = job.task, job.places
    if not anew and (places.teacher / paths.RUN).exists():
        return open_teacher(places, task, runtime)
    if any(part.foreign for part in task.parts):
        raise UserError(
            f"{job.name}: its teacher was not imported yet; with {job.name} under `run.tasks`, run `dvc repro "
            f"train_teacher@{job.name}`, and start again"
        )
    val = places.split("val")
    classes = Examples.load(val).classes if val.exists() and not anew else task.names or CLASSES
    kind = open_kind(task, classes)
    some = _random(kind, job)
    parts = [
        kind.blueprint(part.network, replace(some, classes=part.names()) if isinstance(part, PartTeacher) else some)
        for part in task.parts
    ]
    whole = parts[0] if task.teacher else replace(kind.blueprint("several", some), parts=tuple(parts))
    teacher = Teacher(*(runtime.place(part.build()) for part in parts))
    teacher.compiled = runtime.compile == "teacher"
    return whole, kind, teacher


def _data(job: Job, key: str, path: Path, kind: Kind, anew: bool) -> Examples:
    """What a method is given as `key`, which lies at `path`, or will."""
    if path.exists() and not anew:
        return Examples.load(path)
    if key != POOL:
        return _random(kind, job)
    ood = job.places.split("ood")
    examples = Examples.load(ood) if ood.exists() and not anew else _random(kind, job).unlabelled()
    n = len(examples)
    said = {PREDICTED: torch.randint(len(kind.classes), (n,)), CONFIDENCE: torch.rand(n)}
    return examples.having(**said, **({LOGITS: torch.randn(n, *kind.answer)} if keeps_logits(kind, n) else {}))


def _random(kind: Kind, job: Job) -> Examples:
    """Random labelled images. Raises UserError for texts: their words are known once they are prepared."""
    if IMAGES not in kind.has:
        raise UserError(
            f"{job.name} is not prepared; with {job.name} under `run.tasks`, run `dvc repro prepare@{job.name}`, and start again"
        )
    shape = kind.blank(1).shape[1:]
    count = min(RANDOM, BYTES // shape.numel())
    labels = torch.randint(len(kind.classes), (count, *(shape[1:] if len(kind.answer) > 1 else ())))
    return pack(torch.randint(256, (count, *shape), dtype=torch.uint8), labels, kind.classes)


def training(method: Method, runtime: rt.Runtime, probe: Callable[[], object]) -> Estimate:
    """The whole of a training: what the method asked before, the first iterations of each phase, and others like these."""
    total, start = Estimate(0.0, method.teacher.forwards, method.teacher.backwards), 0
    lengths = [method.iterations]
    if isinstance(method, Phased):
        lengths = [length for length, _ in method.phases()]
    for length in lengths:
        if seen := list(_iterations(method, runtime, start, length)):
            later = seen[-1]._replace(seconds=statistics.median(one.seconds for one in seen[COUNTED + 1 :] or seen))
            timed = [seen[0]._replace(operations=later.operations, calls=later.calls), *seen[COUNTED + 1 :]]
            total = reduce(Estimate.and_then, timed, total).and_then(later, length - len(timed))
        start += length
    before = time.perf_counter()
    probe()
    return total.and_then(Estimate(time.perf_counter() - before), min(POINTS, method.iterations))


def _iterations(method: Method, runtime: rt.Runtime, start: int, length: int) -> Iterator[Estimate]:
    """The first iterations of the phase that begins at `start`, as the engine's loop runs them."""
    if isinstance(method, Phased):
        method.clock.done = start
    teacher, spent, counts = method.teacher, 0.0, (0.0, 0.0)
    for number in range(min(length, MOST)):
        if number >= LEAST and spent > SECONDS:
            return
        for player in method.players.values():
            player.anneal((start + number) / method.iterations)
        rt.seed(0, start + number)
        before, begun = (teacher.forwards, teacher.backwards), time.perf_counter()
        with runtime.autocast():
            if number == COUNTED:
                counts = _counted(method)
            else:
                method.step()
        if runtime.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begun
        spent += seconds
        yield Estimate(seconds, teacher.forwards - before[0], teacher.backwards - before[1], *counts)


def _counted(method: Method) -> tuple[float, float]:
    """Floating-point operations and calls of an iteration, which takes longer: T is asked in chunks as on a GPU."""
    with FlopCounterMode(display=False) as operations, _Calls() as calls, method.teacher.in_chunks_of("cuda"):
        method.step()
    return operations.get_total_flops(), calls.count


class _Calls(TorchDispatchMode):
    """Counts operations on tensors: each costs a GPU some time, however small it is."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))
