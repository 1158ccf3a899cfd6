"""Stage `prepare`: fetch or build a task's images, split them, and pack each split into one file.

Usage: python -m stages.prepare TASK
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from stages import params, paths
from stages.datasets import UNKNOWN, ImageSet
from stages.duplicates import near_duplicates
from stages.engine.runtime import mix
from stages.errors import UserError, run_script
from stages.files import write_json
from stages.params import StudentDomain

TEST, VAL = 0.3, 0.1  # parts of the labelled images: test where a source has none of its own, then val


def main(name: str) -> None:
    """Write one task's in-domain splits, its OOD images, which of these are in test too, and the student's domain."""
    settings = params.load()
    task = settings.task(name)
    shape = task.image

    labelled = task.in_domain.read(shape.channels, shape.size)
    test = task.in_domain.read_test(shape.channels, shape.size)
    splits = split(labelled, test, f"task.{name}.in_domain")
    if isinstance(task.ood, StudentDomain):
        source = task.ood.images
        every, held_out = source.read(shape.channels, shape.size), source.read_test(shape.channels, shape.size)
        shifted = split(every, held_out, f"task.{name}.ood.images", task.ood.train or 0.8, task.ood.val or VAL)
        if shifted["train"].classes != labelled.classes:
            raise UserError(
                f"task.{name}.ood: the student domain has classes {_short(shifted['train'].classes)}, the teacher "
                f"{_short(labelled.classes)}; they must be the same, so rename or leave out folders (`classes`)"
            )
        ood = replace(shifted["train"], labels=torch.full_like(shifted["train"].labels, UNKNOWN), classes=())
    else:
        shifted, ood = {}, task.ood.read(shape.channels, shape.size)

    limit = params.SMOKE_IMAGES if settings.run.scale == "smoke" else None
    splits["ood"] = ood
    for part, images in splits.items():
        splits[part] = _save(_first(images, limit), paths.split(name, part), part)
    for part, images in shifted.items():
        _save(_first(images, limit), paths.student_domain(name, part), f"student domain, {part}")
    # DVC needs the folder in every task, and tracks no empty one.
    write_json(paths.student_domain(name, "images").with_suffix(".json"), {part: len(images) for part, images in shifted.items()})
    rows = near_duplicates(splits["ood"], splits["test"], f"{name}: look for test images in ood")
    overlap = {"of": len(splits["ood"]), "near_duplicates": rows.tolist()}
    if shifted:
        known = near_duplicates(
            shifted["test"], shifted["train"], f"{name}: look for training images in the student domain's test"
        )
        overlap["student_domain_test_in_train"] = len(known)
        print(f"student domain: {len(known)} of {len(shifted['test'])} test images are, or nearly are, training images")
    write_json(paths.overlap(name), overlap)


def split(
    labelled: ImageSet, test: ImageSet | None, where: str, train: float | None = None, val: float = VAL
) -> dict[str, ImageSet]:
    """train, val and test of a labelled set, `test` split off where the source has none of its own.

    `train` and `val` are numbers of images, met about, or parts of the set; without `train`, test is 30 % and train the rest.
    Raises UserError for a set without labels, with a class of too few images, or with other classes in its test part.
    """
    _check_labels(where, labelled)
    if test is not None and test.classes != labelled.classes:
        raise UserError(
            f"{where}: train has classes {_short(labelled.classes)}, test has {_short(test.classes)}; make them the same"
        )
    if train is None:
        if test is None:
            labelled, test = stratified(labelled, TEST)
        labelled, held = stratified(labelled, val)
        return {"train": labelled, "val": held, "test": test}
    n = len(labelled)
    wanted = [round(part * n) if part < 1 else int(part) for part in (train, val)]
    if sum(wanted) + (test is None) * len(labelled.classes) > n:
        raise UserError(
            f"{where}: {n} images do not make {wanted[0]} for train, {wanted[1]} for val and some for test; lower them"
        )
    rest, chosen = stratified(labelled, wanted[0] / n, leave=1 + (test is None))
    rest, held = stratified(rest, wanted[1] / len(rest), leave=int(test is None))
    return {"train": chosen, "val": held, "test": rest if test is None else test}


def stratified(images: ImageSet, part: float, leave: int = 1) -> tuple[ImageSet, ImageSet]:
    """Split off about `part` of every class, always the same images; returns (rest, part).

    At least one image of each class, and at most so many that `leave` of them stay.
    """
    generator = torch.Generator().manual_seed(mix(0))
    chosen = torch.zeros(len(images), dtype=torch.bool)
    for label in images.labels.unique():
        rows = (images.labels == label).nonzero().flatten()
        count = max(1, min(round(part * len(rows)), len(rows) - leave))
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


def _save(images: ImageSet, path: Path, what: str) -> ImageSet:
    images.save(path)
    print(f"{what}: {len(images)} images, {len(images.classes)} classes")
    return images


def _short(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:12]) + (f", ... ({len(classes)} in all)" if len(classes) > 12 else "")


def _check_labels(where: str, images: ImageSet) -> None:
    if len(images.classes) < 2 or (images.labels == UNKNOWN).any():
        raise UserError(f"{where}: needs labelled images of two classes or more; use one sub-folder a class")
    counts = torch.bincount(images.labels, minlength=len(images.classes))
    if counts.min() < 3:
        few = images.classes[int(counts.argmin())]
        raise UserError(f"{where}: class '{few}' has {counts.min()} images; train, val and test need one each, so at least 3")


if __name__ == "__main__":
    run_script(main, "task")
