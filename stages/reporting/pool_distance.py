"""How far a pool is from the teacher's domain."""

from typing import Any

import torch

from stages.datasets.examples import Examples
from stages.engine.teacher import FEATURES, Teacher
from stages.reporting.features import frechet_distance, penultimate

COMPARED = 2000  # images of a pool and of the domain


def pool_distance(teacher: Teacher, kind: Any, pool: Examples, in_domain: Examples) -> dict[str, float]:
    """The Fréchet distance `fd` of `images` of the pool from as many of the domain; none where they are no more than F.

    Nothing of a teacher whose features are not known.
    """
    if FEATURES not in teacher.can:
        return {}
    count = min(COMPARED, len(pool), len(in_domain))
    drawn = (
        one.subset(torch.randperm(len(one), generator=torch.Generator().manual_seed(0))[:count]) for one in (pool, in_domain)
    )
    ours, theirs = (penultimate(teacher, kind.shown(one, 256)) for one in drawn)
    return {"images": count, **({"fd": frechet_distance(ours, theirs)} if count > ours.shape[1] else {})}
