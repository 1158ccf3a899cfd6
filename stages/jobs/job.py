"""A stage of one task, opened: what every script begins with."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stages import methods
from stages.engine.checkpoint import Checkpoint, key, until_done
from stages.engine.runtime import Runtime, running, start
from stages.jobs.setup import files
from stages.jobs.size import largest
from stages.methods.bases.method import Method, MethodParams
from stages.networks.weights import CARD, WEIGHTS
from stages.settings import plans
from stages.settings.params import Params, Run, load
from stages.settings.paths import Places
from stages.settings.plans import Plan
from stages.settings.task import Task
from stages.support.errors import UserError


class Training(NamedTuple):
    """Where a training computes, the key of all that it depends on, and a checkpoint for each of its parts."""

    runtime: Runtime
    key: str
    checkpoints: list[Checkpoint]


@dataclass(frozen=True)
class Job:
    """The checked parameters of one task, the plan of this stage, and the places of the task's files."""

    params: Params
    task: Task
    places: Places
    plan: Plan

    @property
    def name(self) -> str:
        """The task's name."""
        return self.places.task

    @property
    def run(self) -> Run:
        """What runs, and how."""
        return self.params.run

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one input in the largest network of the stage."""
        return largest(self.task, self.name, card=self.places.teacher / CARD)

    @property
    def smoke(self) -> bool:
        """Whether everything is shrunk to seconds."""
        return self.run.scale == "smoke"

    def measuring(self) -> Runtime:
        """Where networks are measured: in fp32, so that no score depends on the machine's precision."""
        return start("fp32", macs=self.macs, threads=self.run.threads)

    def running(self) -> AbstractContextManager[Runtime]:
        """Where networks are trained."""
        return running(self.task.precision or self.run.precision, self.run.compile, self.macs, self.run.threads)

    @contextmanager
    def training(self, what: str, seed: int, inputs: list[Path], parts: Sequence[object] = (0,)) -> Iterator[Training]:
        """A training of `what` from the files `inputs`, in `parts` with a checkpoint each, which go when the block ends well.

        Raises UserError where another process is at the same training, OSError where an input is missing.
        """
        with self.running() as runtime, ExitStack() as stack:
            made_of = key(self.plan.identity, seed, runtime, inputs)
            folders = [f"{self.name}-{what}-{made_of}-{part}" for part in parts]
            checkpoints = [stack.enter_context(until_done(folder, self.run, runtime.rank)) for folder in folders]
            yield Training(runtime, made_of, checkpoints)


@dataclass(frozen=True)
class RowJob(Job):
    """The same of one row with one seed: its `method`, with the checked `section` of parameters."""

    row: str
    seed: int
    method: type[Method]
    section: MethodParams

    @property
    def macs(self) -> int:
        """Those of the method's generator too."""
        return largest(self.task, self.name, getattr(self.section, "generator_width", 0), self.places.teacher / CARD)

    @property
    def inputs(self) -> list[Path]:
        """The files that the training reads: the teacher, and the data that the method sees."""
        return [self.places.teacher / WEIGHTS, *files(self.places, self.task, self.method).values()]


def open_job(stage: str, name: str) -> Job:
    """Stage `stage` of the task called `name`. Raises UserError for wrong parameters, and for a plan that is older than they."""
    settings, places = load(), Places(name)
    task, plan = settings.task(name), plans.of_stage(settings, stage, name)
    plan.agree(places.plan(stage))
    return Job(settings, task, places, plan)


def open_row(name: str, row: str, seed: str, settings: Params | None = None) -> RowJob:
    """Row `row` of the task called `name` with `seed`, a whole number; raises UserError as `open_job`."""
    if not seed.isdecimal():
        raise UserError(f"the seed is a whole number of 0 or more, not '{seed}'")
    settings, places = settings or load(), Places(name)
    method, section = methods.method_class(settings, row), methods.section(settings, row, name)
    plan = methods.plan(settings, row, name, section)
    return RowJob(settings, settings.task(name), places, plan, row, int(seed), method, section)
