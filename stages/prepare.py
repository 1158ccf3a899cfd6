"""Stage `prepare`: fetch or build a task's examples, split them, and pack each split into one file.

Where there are no in-domain examples, validation and test are held out of the OOD ones, and train is empty.

Usage: python -m stages.prepare TASK
"""

from dataclasses import replace
from typing import Any

import torch

from stages import kinds
from stages.datasets.examples import LABEL, Examples, joined
from stages.datasets.sources.shards import Source as Shards
from stages.datasets.stamps import stamps
from stages.jobs.job import open_job
from stages.settings.task import LABELLED, SMOKE_IMAGES, UNLABELLED, StudentDomain, Task
from stages.support.errors import UserError, about, run_script
from stages.support.files import replacing_folder, write_json
from stages.support.seeds import shuffled

LEAST = 3  # examples that can be split in three
FIRST, HELD = 0.8, 0.1  # parts of a student domain: train, val; and val of what has a test part of its own


def main(name: str) -> None:
    """Write one task's in-domain splits, its OOD examples, which of these are in test too, and the student's domain."""
    job = open_job("prepare", name)
    task, places = job.task, job.places
    kinds.check_form(task, f"task.{name}")
    form, kind = task.form, kinds.aspect(task.kind, "splits")
    splits = {} if task.in_domain is None else _of_domain(kind, task, name)
    shifted = _shifted(kind, task, name, splits["train"].classes) if isinstance(task.ood, StudentDomain) else {}
    with about(f"task.{name}.ood"):
        whole = task.in_domain is None  # some of them are tested on
        shards = task.ood.shards() if isinstance(task.ood, Shards) else []
        if shards and whole:
            first, *shards = shards
            ood = _first_shard(first["path"], len(shards), form)
        elif not shards:
            ood = shifted["train"].unlabelled() if shifted else task.ood.read(form if whole else form.trained)
    if shards and whole:
        splits = _of_shard(kind, ood, task, name)
    elif whole:
        splits = _of_pool(kind, ood, task, name)
    elif not shards:
        splits["ood"] = ood
    limit = SMOKE_IMAGES if job.smoke else None
    with replacing_folder(places.data) as new:
        pack = kind.packer(splits["train"], form, new / places.split("train").parent.name)
        splits = {part: pack(_first(examples, limit)) for part, examples in splits.items()}
        if whole and not shards:
            splits["ood"] = _apart(kind, splits, name)
        shifted = {part: pack(_first(examples, limit)) for part, examples in shifted.items()}
        files = {places.split(part): (part, examples) for part, examples in splits.items()}
        files |= {places.student_domain(part): (f"student domain, {part}", shifted[part]) for part in shifted}
        for path, (what, examples) in files.items():
            examples.save(new / path.relative_to(places.data))
            print(f"{what}: {len(examples)} examples" + (f", {len(named)} classes" if (named := examples.classes) else ""))
        overlap = new / places.overlap.relative_to(places.data)
        if shards:
            told = shards[:1] if job.smoke else shards
            write_json(new / places.shards.relative_to(places.data), {"shards": told})
            _known(splits, whole).save(new / places.known.relative_to(places.data))
            print(f"{len(told):,} shards, {sum(one['bytes'] for one in told) / 1e9:.3g} GB; `curate` reads them")
        else:
            write_json(overlap, _overlap(kind, name, splits, shifted))
        if whole:
            held = {part: list(splits[part].files) or splits[part].index.tolist() for part in ("val", "test")}
            write_json(new / places.held_out.relative_to(places.data), held)
        write_json(new / places.sources.name, stamps(task.model_dump(mode="json")))


def _of_domain(kind: Any, task: Task, name: str) -> dict[str, Examples]:
    """train, val and test of the in-domain examples, which have labels or not."""
    where = f"task.{name}.in_domain"
    with about(where):
        if task.measured == LABELLED and hasattr(task.in_domain, "check_labelled"):
            task.in_domain.check_labelled()
        given, test = task.in_domain.read(task.form), task.in_domain.read_test(task.form)
    val = task.split.val if test is None else HELD
    if task.measured == UNLABELLED:
        if len(given) < LEAST:
            raise UserError(f"{where}: has {len(given)} examples; train, val and test need one each, so at least {LEAST}")
        given, test = (part and replace(part, classes=task.names) for part in (given, test))
        return split(kind, given, test, where, val, task.split.test)
    if task.classes is not None:
        if left := sorted(set(given.classes) - set(task.names)):
            print(f"{name}: `classes` does not name {', '.join(left[:5])}; such examples are left out")
        with about(f"task.{name}.classes"):
            given, test = (part and kind.of(part, task.names) for part in (given, test))
    check(kind, given, test, where)
    if task.teachers:
        given, test = (part and _ordered(part, task, f"task.{name}") for part in (given, test))
    return split(kind, given, test, where, val, task.split.test)


def _of_pool(kind: Any, ood: Examples, task: Task, name: str) -> dict[str, Examples]:
    """Validation and test held out of the OOD examples, the rest of these, and nothing for train."""
    if len(ood) < LEAST:
        raise UserError(
            f"task.{name}.ood: {len(ood)} examples cannot be split into a pool, validation and test; give more, or images of the "
            "domain under `in_domain`"
        )
    parts = split(kind, ood.unlabelled(), None, f"task.{name}.ood", task.split.val, task.split.test)
    return {**_judging(task, parts["val"], parts["test"]), "ood": parts["train"]}


def _of_shard(kind: Any, shard: Examples, task: Task, name: str) -> dict[str, Examples]:
    """All of a shard, a third of it for validation and the rest for the test; nothing for train."""
    if len(shard) < LEAST:
        raise UserError(f"task.{name}.ood: the first shard measures students, and has {len(shard)} images; give larger ones")
    test, val = kind.held_out(shard, 1 / 3)
    return _judging(task, val, test)


def _judging(task: Task, val: Examples, test: Examples) -> dict[str, Examples]:
    """Examples that were held out of the pool as splits of the domain, of which there are none to train with."""
    parts = {"train": val.subset(torch.empty(0, dtype=torch.int64)), "val": val, "test": test}
    return {part: replace(examples, classes=task.names) for part, examples in parts.items()}


def _first_shard(path: str, others: int, form: Any) -> Examples:
    """The images of a shard. They measure students, and the pool is the others'. Raises UserError where there are none."""
    if not others:
        raise UserError("without `in_domain` the first shard measures students, and there is no other; give more shards")
    print(f"{path} measures students; the pool comes from the others")
    return Shards(source="shards", path=path).read(form)


def _known(splits: dict[str, Examples], whole: bool) -> Examples:
    """What measures students, for a pool that is read later: it should not be there."""
    return joined([replace(splits[part], classes=()).unlabelled() for part in (("val", "test") if whole else ("test",))])


def _apart(kind: Any, splits: dict[str, Examples], name: str) -> Examples:
    """The pool without what stands among the held out examples too, or nearly: these would be no test."""
    ood, held = splits["ood"], joined([replace(splits[part], classes=()) for part in ("val", "test")])
    rows = kind.twins(ood, held, f"{name}: look for held out examples in ood")
    if not len(left := ood.without(rows)):
        raise UserError(f"task.{name}.ood: every example is, or nearly is, one that is held out; give others")
    if len(rows):
        print(f"{len(rows)} OOD examples are, or nearly are, held out ones; they are left out")
    return left


def _shifted(kind: Any, task: Task, name: str, classes: tuple[str, ...]) -> dict[str, Examples]:
    """train, val and test of the student's domain, whose classes are those of the teacher."""
    where, source = f"task.{name}.ood", task.ood.images
    with about(f"{where}.images"):
        given, test = source.read(task.form), source.read_test(task.form)
    check(kind, given, test, f"{where}.images")
    found = split(kind, given, test, f"{where}.images", task.ood.val or HELD, 0.0, task.ood.train or FIRST)
    if found["train"].classes != classes:
        raise UserError(
            f"{where}: the student domain has classes {_short(found['train'].classes)}, the teacher {_short(classes)}; they "
            "must be the same, so rename or leave out folders (`classes`)"
        )
    return found


def _overlap(kind: Any, name: str, splits: dict[str, Examples], shifted: dict[str, Examples]) -> dict[str, Any]:
    """Which OOD examples stand in the test split, and how many test examples of the student's domain in its training split.

    Without in-domain examples there are none any more.
    """
    held_out = not len(splits["train"])
    rows = torch.empty(0) if held_out else kind.twins(splits["ood"], splits["test"], f"{name}: look for test examples in ood")
    found = {"of": len(splits["ood"]), "near_duplicates": rows.tolist()}
    if shifted:
        what = f"{name}: look for training examples in the student domain's test"
        known = kind.twins(shifted["test"], shifted["train"], what)
        found["student_domain_test_in_train"] = len(known)
        print(f"student domain: {len(known)} of {len(shifted['test'])} test examples are, or nearly are, training examples")
    return found


def split(
    kind: Any, given: Examples, test: Examples | None, where: str, val: float, held: float, train: float | None = None
) -> dict[str, Examples]:
    """train, val and test of a set, `test` split off where the source has none of its own.

    `train` and `val` are numbers of images, met about, or parts of the set; without `train`, test is the part `held`, val a part
    of what is left, and train the rest. Raises UserError for numbers that the set has not.
    """
    if train is None:
        if test is None:
            given, test = kind.held_out(given, held, leave=2)
        given, second = kind.held_out(given, val)
        return {"train": given, "val": second, "test": test}
    n = len(given)
    wanted = [round(part * n) if part < 1 else int(part) for part in (train, val)]
    if sum(wanted) + (test is None) * len(given.classes) > n:
        raise UserError(
            f"{where}: {n} examples do not make {wanted[0]} for train, {wanted[1]} for val and some for test; lower them"
        )
    rest, chosen = kind.held_out(given, wanted[0] / n, leave=1 + (test is None))
    rest, second = kind.held_out(rest, wanted[1] / len(rest), leave=int(test is None))
    return {"train": chosen, "val": second, "test": rest if test is None else test}


def check(kind: Any, labelled: Examples, test: Examples | None, where: str) -> None:
    """Raise UserError for a set without labels, with a class of too few images, or with other classes in its test part."""
    kind.check(labelled, where)
    if test is not None and test.classes != labelled.classes:
        raise UserError(
            f"{where}: train has classes {_short(labelled.classes)}, test has {_short(test.classes)}; make them the same"
        )
    if test is not None:
        kind.check(test, f"{where}: its test part", least=0)


def _ordered(examples: Examples, task: Task, where: str) -> Examples:
    """The examples with their classes in the order of the teachers' logits."""
    known = [part.names() for part in task.teachers]
    classes = tuple(name for part in known for name in part)
    if len(set(classes)) < len(classes) or set(classes) != set(examples.classes) or LABEL not in examples.columns:
        odd = sorted(set(classes) ^ set(examples.classes)) or sorted({name for name in classes if classes.count(name) > 1})
        raise UserError(
            f"{where}.teachers: each class of the in-domain data has one teacher, and they no others; "
            f"look at {', '.join(odd[:5]) or 'the labels, of which there are none'}"
        )
    return examples.of(classes)


def _first(examples: Examples, limit: int | None) -> Examples:
    """At most `limit` examples, a seeded draw in the order of the source."""
    if limit is None or len(examples) <= limit:
        return examples
    return examples.subset(shuffled(len(examples))[:limit].sort().values)


def _short(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:12]) + (f", ... ({len(classes)} in all)" if len(classes) > 12 else "")


if __name__ == "__main__":
    run_script(main, "task")
