"""A pool of shards: every image is scored as it streams by, and what is kept is read once more.

Scores are some numbers an image. They lie in a file a shard, so that nothing is asked twice, whoever computes them: this process,
its helpers, or `stages.tools.score_shards` on another machine.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.curation.rules import KeepRule, Scores, open_rule
from stages.curation.scores import standing_out
from stages.datasets.examples import INDEX, INPUT, PREDICTED, Examples
from stages.datasets.sources.shards import batches
from stages.engine.teacher import Teacher
from stages.jobs.job import Job, open_job
from stages.jobs.setup import open_teacher
from stages.kinds import Kind
from stages.networks.answers import stored
from stages.networks.taps import logits_and_features
from stages.networks.weights import WEIGHTS
from stages.support.errors import UserError
from stages.support.files import read_json, read_tensors, save_tensors, sha256
from stages.support.progress import progress

FOLDER = Path(".cache/shards")
FEATURES = "features"


class Shards:
    """The shards of a task, and where their scores lie: a folder for what decides them, the teacher, code, form and shards."""

    def __init__(self, job: Job):
        self.job, self.rule = job, open_rule(job.name, job.task.curate, job.run.scale)
        _check(job.name, self.rule)
        manifest = read_json(job.places.shards)["shards"]
        self.paths = [one["path"] for one in manifest]
        form = job.task.form.trained.model_dump(mode="json")
        made_of = [manifest, job.plan.code, form, self.rule.features, sha256(job.places.teacher / WEIGHTS)]
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = FOLDER / f"{job.name}-{digest}"

    def file(self, number: int) -> Path:
        """The scores of a shard."""
        return self.folder / f"{number:06d}.safetensors"

    def score(self, part: slice = slice(None)) -> None:
        """Score all shards of a part that nobody has scored yet."""
        numbers = [number for number in range(len(self.paths))[part] if not self.file(number).exists()]
        for _ in _each(functools.partial(_scored, self.job.name, self.folder), numbers, f"score shards of {self.job.name}"):
            pass

    def scores(self) -> tuple[Scores, Tensor | None]:
        """What the kind says of every image, in the order of shards, and the class `predicted`; T's features, if the rule asks.

        Raises UserError where more than 1 % cannot be read.
        """
        self.score()
        found, infos = zip(*(read_tensors(self.file(number)) for number in range(len(self.paths))), strict=True)
        self.counts = [info["images"] for info in infos]
        damaged, n = [what for info in infos for what in info["damaged"]], sum(self.counts)
        if damaged:
            print(f"{len(damaged)} of {n + len(damaged):,} images or shards cannot be read: {', '.join(damaged[:5])}")
        if len(damaged) > max(3, (n + len(damaged)) // 100):
            raise UserError(f"task.{self.job.name}.ood: too many of them are damaged; mend or remove them")
        scores = {key: torch.cat([one[key] for one in found if one]) for key in next(one for one in found if one)}
        scores[PREDICTED] = standing_out(scores["shares"])
        return scores, scores.pop(FEATURES, None)

    def kept(self, rows: Tensor) -> Examples:
        """The images at `rows` (int64, ascending), packed; `scores` was called."""
        ends = torch.tensor(list(accumulate(self.counts)))
        shard = torch.searchsorted(ends, rows, right=True)
        starts = ends - torch.tensor(self.counts)
        wanted = [(self.paths[i], (rows[shard == i] - starts[i]).tolist()) for i in shard.unique().tolist()]
        form = self.job.task.form.trained
        read = _each(functools.partial(_read, form), wanted, f"read the pool of {self.job.name}")
        names, images = zip(*read, strict=True)
        return Examples({INPUT: torch.cat(images), INDEX: rows}, files=tuple(name for some in names for name in some))


def _check(name: str, rule: KeepRule) -> None:
    if rule.count is None:
        raise UserError(f"task.{name}.curate: of shards some images are kept; say how many (`count`) and by which rule (`keep`)")
    if rule.impressions:
        raise UserError(
            f"task.{name}.curate.keep: `{rule.keep}` looks at pictures twice, and shards stream by; take another rule"
        )


def _each(function: Callable[[Any], Any], items: list[Any], what: str) -> Iterator[Any]:
    """The function of each item, in order, a process a core at most."""
    workers = min(len(items), os.cpu_count() or 1)
    if workers <= 1:
        yield from progress(map(function, items), what, total=len(items))
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        try:
            yield from progress(pool.map(function, items), what, total=len(items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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
    damaged, said, features = list[str](), list[dict[str, Tensor]](), list[Tensor]()
    images = (kind.plain(some) for _, some in batches(shards.paths[number], shards.job.task.form.trained, damaged))
    for answer, heard in logits_and_features(teacher, images, shards.rule.features):
        said.append(kind.summary(answer))
        features += [] if heard is None else [heard]
    torch.set_num_threads(threads)
    whole = {key: torch.cat([one[key] for one in said]) for key in said[0]} if said else {}
    n = sum(len(one["entropy"]) for one in said)
    save_tensors(
        shards.file(number), whole | ({FEATURES: torch.cat(features)} if features else {}), {"images": n, "damaged": damaged}
    )


def _read(form: Any, wanted: tuple[str, list[int]]) -> tuple[list[str], Tensor]:
    """Names and images of a shard at some places among those that can be read."""
    path, places = wanted
    chosen, names, images, start = torch.tensor(places), list[str](), list[Tensor](), 0
    for some, pixels in batches(path, form, []):
        mine = chosen[(chosen >= start) & (chosen < start + len(some))] - start
        names += [some[i] for i in mine.tolist()]
        images.append(pixels[mine])
        start += len(some)
    return names, torch.cat(images)
