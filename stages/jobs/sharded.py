"""A pool of shards: every image is scored as it streams by, and what is kept is read once more.

Scores are some numbers an image. They lie in a file a shard, so that nothing is asked twice, whoever computes them: this process,
its helpers, or `stages.tools.score_shards` on another machine.
"""

import functools
import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.curation.rules import KeepRule, Scores, open_rule
from stages.curation.scores import standing_out
from stages.datasets.examples import INDEX, INPUT, PREDICTED, Examples
from stages.datasets.sources.shards import Damaged, batches
from stages.engine.teacher import Teacher
from stages.jobs.job import Job, open_job
from stages.jobs.setup import open_teacher
from stages.kinds import Kind
from stages.networks.answers import stored
from stages.networks.taps import logits_and_features
from stages.networks.weights import WEIGHTS
from stages.settings.task import EVERYTHING
from stages.support.errors import UserError
from stages.support.files import read_json, read_tensors, save_tensors, sha256
from stages.support.progress import progress

FOLDER = Path(".cache/shards")
FEATURES = "features"
CHOOSING = ("stages.curate", "stages.curation.rules")  # code that chooses by scores, and computes none of these
HELPERS = 4  # processes that share a GPU


class Shards:
    """The shards of a task, and where their scores lie: a folder for what decides them, the teacher, code, form and shards."""

    def __init__(self, job: Job):
        self.job, self.rule = job, open_rule(job.name, job.task.curate, job.run.scale)
        self.manifest = read_json(job.places.shards)["shards"]
        self.paths = [one["path"] for one in self.manifest]
        code = {module: digest for module, digest in job.plan.code.items() if not module.startswith(CHOOSING)}
        form = job.task.form.trained.model_dump(mode="json")
        made_of = [self.manifest, code, form, self.rule.features, sha256(job.places.teacher / WEIGHTS)]
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = FOLDER / f"{job.name}-{digest}"

    def file(self, number: int) -> Path:
        """The scores of a shard."""
        return self.folder / f"{number:06d}.safetensors"

    def score(self, part: slice = slice(None)) -> None:
        """Score all shards of a part that nobody has scored yet. Raises UserError for shards that changed since `prepare`."""
        now = {one["path"]: one for one in self.job.task.ood.shards()}
        if changed := next((one["path"] for one in self.manifest if now.get(one["path"]) != one), None):
            raise UserError(f"{changed} is not as `prepare` found it; `dvc repro -f prepare@{self.job.name}` lists shards again")
        asked = range(len(self.paths))[part]
        numbers = [number for number in asked if not self.file(number).exists()]
        if len(numbers) < len(asked):
            print(f"{self.job.name}: {len(asked) - len(numbers)} of {len(asked)} shards are scored already, in {self.folder}")
        for _ in _each(functools.partial(_scored, self.job.name, self.folder), numbers, f"score shards of {self.job.name}"):
            pass

    def scores(self) -> tuple[Scores, Tensor | None]:
        """What the kind says of every image, in the order of shards, and the class `predicted`; T's features, if the rule asks.

        Raises UserError where there is no image, or too many cannot be read.
        """
        self.score()
        found, infos = zip(*(read_tensors(self.file(number)) for number in range(len(self.paths))), strict=True)
        self.counts = [info["count"] for info in infos]
        self.broken = [set(info["places"]) for info in infos]
        damaged = Damaged(*([name for info in infos for name in info[what]] for what in Damaged._fields))
        damaged.tell(sum(self.counts), len(self.paths), f"task.{self.job.name}.ood")
        scores = {key: torch.cat([one[key] for one in found if one]) for key in next(one for one in found if one)}
        scores[PREDICTED] = standing_out(scores["shares"])
        return scores, scores.pop(FEATURES, None)

    def kept(self, rows: Tensor) -> Examples:
        """The images at `rows` (int64, ascending), packed; `scores` was called."""
        ends = torch.tensor(list(accumulate(self.counts)))
        shard = torch.searchsorted(ends, rows, right=True)
        starts = ends - torch.tensor(self.counts)
        wanted = [(self.paths[i], self._places(i, rows[shard == i] - starts[i])) for i in shard.unique().tolist()]
        read = _each(functools.partial(_read, self.job.task.form.trained), wanted, f"read the pool of {self.job.name}")
        names, images = zip(*read, strict=True)
        return Examples(
            {INPUT: torch.cat([torch.from_numpy(some) for some in images]), INDEX: rows},
            files=tuple(name for some in names for name in some),
        )

    def _places(self, number: int, rows: Tensor) -> list[int]:
        """Where rows of a shard, which counts what can be read, stand among all of its images."""
        every = self.counts[number] + len(self.broken[number])
        good = [place for place in range(every) if place not in self.broken[number]]
        return [good[row] for row in rows.tolist()]


def check_rule(name: str, rule: KeepRule) -> None:
    """Raise UserError where a task's rule cannot choose among shards."""
    if rule.keep == EVERYTHING or rule.count is None:
        raise UserError(f"task.{name}.curate: of shards some images are kept; say how many (`count`) and by which rule (`keep`)")
    if rule.impressions:
        raise UserError(
            f"task.{name}.curate.keep: `{rule.keep}` looks at pictures twice, and shards stream by; take another rule"
        )


def _each(function: Callable[[Any], Any], items: list[Any], what: str) -> Iterator[Any]:
    """The function of each item, in order, a process a core at most. Raises UserError where one of them was killed."""
    most = HELPERS if torch.cuda.is_available() else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if (workers := min(len(items), most)) <= 1:
        yield from progress(map(function, items), what, total=len(items))
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
        try:
            yield from progress(pool.map(function, items), what, total=len(items))
        except BrokenProcessPool:
            raise UserError(f"a process of '{what}' was killed; is there memory enough? What is done stays done") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent() -> None:
    """Where the process is killed that wants the answers, nobody should go on computing them."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@functools.cache
def _opened(name: str, folder: Path) -> tuple[Shards, Kind, Teacher]:
    """What a process needs to score shards of a task, whose scores go to `folder`."""
    job = open_job("curate", name)
    _, kind, teacher = open_teacher(job.places, job.task, job.measuring())
    if stored(teacher) is not None:
        raise UserError(f"{name}: the teacher was asked once; shards take one that can be asked")
    return Shards(job), kind, teacher


def _scored(name: str, folder: Path, number: int) -> None:
    """Write the scores of a shard. One thread computes them, so they are the same with any number of processes."""
    shards, kind, teacher = _opened(name, folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    damaged, said, features = Damaged([], [], []), list[dict[str, Tensor]](), list[Tensor]()
    images = (kind.plain(some) for _, some in batches(shards.paths[number], shards.job.task.form.trained, damaged))
    for answer, heard in logits_and_features(teacher, images, shards.rule.features):
        said.append(kind.summary(answer))
        features += [] if heard is None else [heard]
    torch.set_num_threads(threads)
    whole = {key: torch.cat([one[key] for one in said]) for key in said[0]} if said else {}
    whole |= {FEATURES: torch.cat(features)} if features else {}
    save_tensors(shards.file(number), whole, {"count": sum(len(one["entropy"]) for one in said), **damaged._asdict()})


def _read(form: Any, wanted: tuple[str, list[int]]) -> tuple[list[str], Any]:
    """Names and images of a shard at some places; an array, for tensors want a file to travel in.

    Raises UserError where it has fewer images than it had.
    """
    path, places = wanted
    found = list(batches(path, form, Damaged([], [], []), frozenset(places)))
    names = [name for some, _ in found for name in some]
    if len(names) < len(places):
        raise UserError(f"{path} has fewer images than when it was scored; has it changed?")
    return names, torch.cat([images for _, images in found]).numpy()
