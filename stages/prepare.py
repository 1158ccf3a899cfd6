"""Stage `prepare`: fetch or build a task's images, split them, and pack each split into one file.

Usage: python -m stages.prepare TASK
"""

import torch
from torch import Tensor

from stages import params, paths
from stages.datasets import UNKNOWN, ImageSet
from stages.engine.runtime import mix
from stages.errors import UserError, run_script

TEST, VAL = 0.3, 0.1  # parts of the labelled images: test where a source has none of its own, then val


def main(name: str) -> None:
    """Write train, val and test (in-domain, labelled) and ood of one task."""
    settings = params.load()
    task = settings.task(name)
    shape = task.image
    limit = params.SMOKE_IMAGES if settings.run.scale == "smoke" else None

    labelled = task.in_domain.read(shape.channels, shape.size)
    test = task.in_domain.read_test(shape.channels, shape.size)
    _check_labels(name, labelled)
    if test is None:
        labelled, test = stratified(labelled, TEST)
    elif test.classes != labelled.classes:
        raise UserError(
            f"task.{name}.in_domain: train has classes {labelled.classes}, test has {test.classes}; they must be the same"
        )
    train, val = stratified(labelled, VAL)
    ood = task.ood.read(shape.channels, shape.size)

    for split, images in {"train": train, "val": val, "test": test, "ood": ood}.items():
        images = _first(images, limit)
        images.save(paths.split(name, split))
        print(f"{split}: {len(images)} images, {len(images.classes)} classes")


def stratified(images: ImageSet, part: float) -> tuple[ImageSet, ImageSet]:
    """Split off `part` of every class (at least one image of each), always the same images; returns (rest, part)."""
    generator = torch.Generator().manual_seed(mix(0))
    chosen = torch.zeros(len(images), dtype=torch.bool)
    for label in images.labels.unique():
        rows = (images.labels == label).nonzero().flatten()
        count = max(1, round(part * len(rows)))
        chosen[rows[torch.randperm(len(rows), generator=generator)[:count]]] = True
    return images.subset(_rows(~chosen)), images.subset(_rows(chosen))


def _rows(mask: Tensor) -> Tensor:
    return mask.nonzero().flatten()


def _first(images: ImageSet, limit: int | None) -> ImageSet:
    """At most `limit` images, a seeded draw in the order of the source."""
    if limit is None or len(images) <= limit:
        return images
    drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(mix(0)))[:limit]
    return images.subset(drawn.sort().values)


def _check_labels(name: str, images: ImageSet) -> None:
    if len(images.classes) < 2 or (images.labels == UNKNOWN).any():
        raise UserError(f"task.{name}.in_domain: needs labelled images of two classes or more; use one sub-folder a class")
    counts = torch.bincount(images.labels, minlength=len(images.classes))
    if counts.min() < 3:
        few = images.classes[int(counts.argmin())]
        raise UserError(
            f"task.{name}.in_domain: class '{few}' has {counts.min()} images; train, val and test need one each, so at least 3"
        )


if __name__ == "__main__":
    run_script(main, "task")
